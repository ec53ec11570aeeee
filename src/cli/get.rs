//! `tenure get`.

use super::args::{Format, Get};
use super::client::{self, API, escaped};
use super::source::Source;
use super::{CliError, Done, output};
use crate::controller::clock;
use crate::model::Kind;
use crate::os::StateDir;

/// The kind that a word on the command line means.
pub(super) fn kind(text: &str) -> Result<Kind, CliError> {
    Kind::parse(text).ok_or_else(|| {
        let all: Vec<&str> = Kind::ALL.into_iter().map(Kind::plural).collect();
        let help = crate::manifest::similar(text, all.iter().copied())
            .map_or_else(|| format!("there are {}", all.join(", ")), |close| format!("did you mean `{close}`?"));
        CliError::Usage(format!("there is no kind `{text}`; {help}"))
    })
}

pub(super) async fn get(args: &Get, state: &StateDir) -> Done {
    let kind = kind(&args.kind)?;
    if args.watch {
        return watch(kind, args, state).await;
    }
    let source = Source::new(state);
    let text = match &args.name {
        Some(name) => output::one(kind, &source.get(kind, name).await?, args.output, clock())?,
        None => output::list(kind, &source.list(kind, args.selector.as_deref()).await?, args.output, clock())?,
    };
    print!("{text}");
    Ok(0)
}

/// A line for each change, from what there is now on.
async fn watch(kind: Kind, args: &Get, state: &StateDir) -> Done {
    let selector = args.selector.as_ref().map(|text| format!("&labelSelector={}", escaped(text))).unwrap_or_default();
    let field = args.name.as_ref().map(|name| format!("&fieldSelector=metadata.name%3D{}", escaped(name)));
    let path = format!("{API}/{}?watch=1{selector}{}", kind.plural(), field.unwrap_or_default());
    client::lines(state, &path, |change| {
        let what = change["type"].as_str().unwrap_or_default();
        let object = &change["object"];
        match (args.output, what) {
            (_, "BOOKMARK") => {}
            (_, "ERROR") => {
                let message = object["message"].as_str().unwrap_or("the watch ended");
                return Err(CliError::Failed(anyhow::anyhow!(message.to_owned())));
            }
            (Format::Json | Format::Yaml, _) => println!("{change}"),
            (Format::Table | Format::Wide | Format::Name, _) => {
                let mut row = vec![what.to_owned()];
                row.extend(output::row(kind, object, args.output == Format::Wide, clock()));
                println!("{}", row.join("  "));
            }
        }
        Ok(true)
    })
    .await?;
    Ok(0)
}
