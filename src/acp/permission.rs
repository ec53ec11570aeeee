//! How requests for permission are answered. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::model::Permissions;
use agent_client_protocol_schema::v1::{
    PermissionOption, PermissionOptionKind, RequestPermissionOutcome, RequestPermissionResponse,
    SelectedPermissionOutcome,
};

/// The answer to a request that offers `options`. One time is preferred to always: each request is then seen in the
/// transcript. An option that the policy needs and the agent does not offer means `cancelled`, which grants nothing.
pub(crate) fn answer(
    policy: Permissions,
    being_cancelled: bool,
    options: &[PermissionOption],
) -> RequestPermissionResponse {
    let preferred = match policy {
        Permissions::Allow => [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways],
        Permissions::Deny => [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways],
    };
    let chosen = preferred.iter().find_map(|kind| options.iter().find(|option| option.kind == *kind));
    let outcome = match chosen {
        Some(option) if !being_cancelled => {
            RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone()))
        }
        _ => RequestPermissionOutcome::Cancelled,
    };
    RequestPermissionResponse::new(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PermissionOptionKind::*;

    #[test]
    fn the_policy_chooses_and_a_cancelled_turn_grants_nothing() {
        let cases = [
            (Permissions::Allow, false, vec![AllowAlways, AllowOnce, RejectOnce], Some("1")),
            (Permissions::Allow, false, vec![RejectOnce, AllowAlways], Some("1")),
            (Permissions::Allow, false, vec![RejectOnce], None),
            (Permissions::Allow, true, vec![AllowOnce], None),
            (Permissions::Deny, false, vec![AllowOnce, RejectAlways, RejectOnce], Some("2")),
            (Permissions::Deny, false, vec![AllowOnce, RejectAlways], Some("1")),
            (Permissions::Deny, false, vec![AllowOnce], None),
            (Permissions::Deny, true, vec![RejectOnce], None),
            (Permissions::Allow, false, vec![], None),
        ];
        for (policy, cancelled, kinds, expected) in cases {
            let options: Vec<_> = kinds
                .iter()
                .enumerate()
                .map(|(index, kind)| PermissionOption::new(index.to_string(), "option", *kind))
                .collect();
            let chosen = match answer(policy, cancelled, &options).outcome {
                RequestPermissionOutcome::Selected(selected) => Some(selected.option_id.0.to_string()),
                _ => None,
            };
            assert_eq!(chosen.as_deref(), expected, "{policy:?} {cancelled} {kinds:?}");
        }
    }
}
