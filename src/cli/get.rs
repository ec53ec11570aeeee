//! `tenure get`: objects, as a table or whole, once or as they change.

use super::console::Console;
use super::failure::{Context, Done, Exit, Failure};
use super::names;
use super::rows;
use super::source::{Source, list_of, list_path};
use super::table::{self, Columns};
use super::text::at;
use crate::model::Kind;
use crate::os::StateDir;
use clap::ValueEnum;
use serde_json::Value;
use std::collections::BTreeSet;

/// List objects, or show one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kind: jobs, runs, workloads, flows, …; or KIND/NAME
    kind: String,
    /// The name of one object
    name: Option<String>,
    /// How it is shown
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Go on with each change, a line each
    #[arg(short, long)]
    watch: bool,
    /// Only objects with this label; may be given again
    #[arg(short = 'l', long = "label", visible_alias = "selector", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = names::pair)]
    labels: Vec<(String, String)>,
}

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line each.
    Table,
    /// A longer line each.
    Wide,
    /// Whole, as JSON.
    Json,
    /// Whole, as YAML.
    Yaml,
    /// Kinds and names.
    Name,
}

pub async fn main(args: Args, state: &StateDir, console: &mut Console) -> Done {
    let (kind, name) = names::kind_and_name(&args.kind, args.name.clone())?;
    let source = Source::open(state, console).await.to(|| format!("get {}", kind.plural()))?;
    if args.watch {
        return watch(&args, kind, name.as_deref(), &source, console).await;
    }
    let objects = match &name {
        Some(name) => vec![source.get(kind, name).await?],
        None => source.list(kind, &args.labels).await?,
    };
    match args.output {
        Format::Table | Format::Wide => {
            let wide = args.output == Format::Wide;
            let now = (console.now)();
            if objects.is_empty() {
                console.say(&format!("there are no {}", kind.plural()));
                return Ok(Exit::Done);
            }
            let rows: Vec<_> = objects.iter().map(|object| rows::row(kind, object, wide, now)).collect();
            console.print(&table::render(&rows::heads(kind, wide), &rows, console.colour))?;
        }
        Format::Name => {
            for object in &objects {
                console.line(&named(kind, object))?;
            }
        }
        Format::Json | Format::Yaml => {
            let mut objects = objects;
            let whole = match (&name, objects.pop()) {
                (Some(_), Some(object)) => object,
                (_, last) => list_of(objects.into_iter().chain(last).collect()),
            };
            console.print(&whole_as_text(&whole, args.output)?)?;
        }
    }
    Ok(Exit::Done)
}

/// Each change, a line each, until the controller ends.
async fn watch(args: &Args, kind: Kind, name: Option<&str>, source: &Source, console: &mut Console) -> Done {
    let what = || format!("watch {}", kind.plural());
    let client = source.live().to(what)?;
    let wide = args.output == Format::Wide;
    let mut columns = Columns::new(&rows::heads(kind, wide));
    // The longest phase, and most reasons and stages.
    for (head, width) in [("PHASE", 9), ("REASON", 12), ("STAGE", 9)] {
        columns.reserve(head, width);
    }
    // What is there now decides the widths; the watch tells it again first.
    let mut shown = BTreeSet::new();
    if matches!(args.output, Format::Table | Format::Wide) {
        let mut objects = source.list(kind, &args.labels).await?;
        objects.retain(|object| name.is_none_or(|name| at(object, "/metadata/name") == name));
        let now = (console.now)();
        let rows: Vec<_> = objects.iter().map(|object| rows::row(kind, object, wide, now)).collect();
        rows.iter().for_each(|row| columns.fit(row));
        console.print(&columns.head(console.colour))?;
        for row in &rows {
            console.print(&columns.line(row, console.colour))?;
        }
        shown = objects.iter().map(version).collect();
    }
    let mut lines = client.lines(&list_path(kind, &args.labels, name, true)).await.to(what)?;
    console.flush()?;
    while let Some(change) = lines.next().await.to(what)? {
        let object = &change["object"];
        let is_deleted = change["type"] == "DELETED";
        let is_repeated = shown.remove(&version(object));
        if is_repeated && !is_deleted {
            continue;
        }
        match args.output {
            Format::Table | Format::Wide => {
                let now = (console.now)();
                let row = if is_deleted { rows::row_of_deleted } else { rows::row }(kind, object, wide, now);
                columns.fit(&row);
                console.print(&columns.line(&row, console.colour))?;
            }
            Format::Name => console.line(&named(kind, object))?,
            Format::Json => console.line(&change.to_string())?,
            Format::Yaml => console.print(&format!("---\n{}", whole_as_text(object, Format::Yaml)?))?,
        }
        console.flush()?;
    }
    Err(Failure::failed("the controller has ended").help("start it again, then watch again")).to(what)
}

/// What tells an object at one time from itself at another.
fn version(object: &Value) -> (String, String) {
    (at(object, "/metadata/uid") + "/" + &at(object, "/metadata/name"), at(object, "/metadata/resourceVersion"))
}

/// `job/x`.
fn named(kind: Kind, object: &Value) -> String {
    format!("{}/{}", kind.as_str().to_lowercase(), at(object, "/metadata/name"))
}

/// The whole of it, with a final line feed.
pub fn whole_as_text(value: &Value, format: Format) -> Result<String, Failure> {
    let text = match format {
        Format::Yaml => serde_yaml::to_string(value).map_err(|error| error.to_string()),
        _ => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
    };
    let mut text = text.map_err(|why| Failure::failed(format!("the object can not be written: {why}")))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
