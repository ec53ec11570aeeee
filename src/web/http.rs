//! The edge: one POST of JSON, and what came of it.

use super::retry::retry_after;
use crate::model::Time;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Uri;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Timeout};

/// No connection takes longer; a host that is not there is found out before the patience for a slow answer is over.
const CONNECT_MAX: Duration = Duration::from_secs(20);

/// A URL that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// All of it. It may hold a secret: it is not shown.
    pub url: String,
    /// The host, in lower case.
    pub host: String,
    /// The host and the port, if there is one: what is shown.
    pub shown: String,
}

impl Target {
    /// Of a URL; or what is wrong with it: fits behind what it is the URL of.
    pub fn parse(url: &str) -> Result<Target, String> {
        let url = url.trim();
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err("does not begin with http:// or https://".into());
        }
        let uri: Uri = url.parse().map_err(|error| format!("is no URL ({error})"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("names no host")?.to_ascii_lowercase();
        let shown = uri.port_u16().map_or(host.clone(), |port| format!("{host}:{port}"));
        Ok(Target { url: url.into(), host, shown })
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub status: u16,
    /// How long to wait before asking again, if the server says so.
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoReply {
    /// The server cannot be reached, or went away: it may be back soon. As text: fits behind a colon.
    Unreachable(String),
    /// It took too long.
    TimedOut,
    /// It will not be better next time. As text: fits behind a colon.
    Hopeless(String),
}

/// Posts JSON, within `timeout`. At most `most` bytes of the answer's body are taken, and a longer one is none; with 0 the body
/// is left alone.
pub(super) fn post(
    target: &Target,
    key: Option<&str>,
    json: &[u8],
    timeout: Duration,
    most: u64,
) -> Result<Reply, NoReply> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("tenure/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(timeout))
        .timeout_connect(Some(CONNECT_MAX))
        .tls_config(TlsConfig::builder().root_certs(root_certs().map_err(NoReply::Hopeless)?).build())
        .build()
        .into();
    let mut request = agent.post(&target.url).header(CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        request = request.header(AUTHORIZATION, format!("Bearer {key}"));
    }
    let mut response = request.send(json).map_err(no_reply)?;
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = asked.and_then(|value| retry_after(value, now()));
    let status = response.status().as_u16();
    let body = match most {
        0 => Vec::new(),
        most => response.body_mut().with_config().limit(most).read_to_vec().map_err(no_reply)?,
    };
    Ok(Reply { status, retry_after, body })
}

/// The certificates of the file that `$SSL_CERT_FILE` names, as other programs understand it; else those built in.
fn root_certs() -> Result<RootCerts, String> {
    let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) else {
        return Ok(RootCerts::WebPki);
    };
    let failed = |error: String| format!("failed to read $SSL_CERT_FILE ({}): {error}", path.display());
    let pem = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| failed(error.to_string()))? {
            certificates.push(certificate);
        }
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

fn no_reply(error: ureq::Error) -> NoReply {
    use std::io::ErrorKind;
    match error {
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
            NoReply::Unreachable("no connection in time".into())
        }
        ureq::Error::Timeout(_) => NoReply::TimedOut,
        // What is wrong with a certificate comes as invalid data.
        ureq::Error::Io(error) if error.kind() == ErrorKind::InvalidData => NoReply::Hopeless(error.to_string()),
        ureq::Error::Io(error) => NoReply::Unreachable(error.to_string()),
        ureq::Error::HostNotFound => NoReply::Unreachable("no such host".into()),
        error @ (ureq::Error::ConnectionFailed | ureq::Error::ConnectProxyFailed(_)) => {
            NoReply::Unreachable(error.to_string())
        }
        ureq::Error::BodyExceedsLimit(most) => NoReply::Hopeless(format!("the answer is longer than {most} bytes")),
        error => NoReply::Hopeless(error.to_string()),
    }
}

/// The time of day.
fn now() -> Time {
    Time(jiff::Timestamp::now().as_millisecond())
}

/// A random number from 0 to 1.
pub(super) fn random() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128();
    f64::from(u16::try_from(bits & 0xffff).unwrap_or_default()) / f64::from(u16::MAX)
}

/// `404 Not Found`, or only the number.
pub(super) fn status_text(status: u16) -> String {
    let known = ureq::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    known.map_or(status.to_string(), |reason| format!("{status} {reason}"))
}
