//! `tenure eval`: an expression of the flow language.

use super::console::{Console, Tone, paint};
use super::failure::{Context, Done, Exit, Failure};
use crate::flow::expr;
use serde_json::{Map, Value};

/// Evaluate an expression of the flow language; prints its value as JSON
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The expression
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    expression: String,
    /// The names that it sees: a JSON object, or @FILE with one (@- is standard input)
    #[arg(long, value_name = "JSON|@FILE")]
    context: Option<String>,
}

pub fn main(args: Args, console: &mut Console) -> Done {
    let names = names(args.context.as_deref()).to(|| "read the context".into())?;
    match evaluate(&args.expression, &names) {
        Ok(value) => {
            console.line(&value.to_string())?;
            Ok(Exit::Done)
        }
        Err((message, offset)) => {
            let caret = paint(console.colour_err, Tone::Bold, "^");
            let head = paint(console.colour_err, Tone::Bad, "error:");
            console.say(&format!("{head} {message}\n{}", pointed(&args.expression, offset, &caret)));
            Ok(Exit::Failed)
        }
    }
}

/// The value of an expression; or why it has none, and how many characters into it that is.
fn evaluate(text: &str, names: &Map<String, Value>) -> Result<Value, (String, usize)> {
    expr::eval(text, names).map_err(|error| (error.message, error.offset))
}

fn names(context: Option<&str>) -> Result<Map<String, Value>, Failure> {
    let text = match context {
        None => return Ok(Map::new()),
        Some(context) => match context.strip_prefix('@') {
            None => context.to_owned(),
            Some("-") => {
                std::io::read_to_string(std::io::stdin()).map_err(|error| Failure::failed(error.to_string()))?
            }
            Some(path) => std::fs::read_to_string(path).map_err(|error| Failure::failed(format!("{path}: {error}")))?,
        },
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(names)) => Ok(names),
        Ok(_) => {
            Err(Failure::usage("it is not a JSON object")
                .help("write --context '{\"outputs\": {}}', or --context @FILE"))
        }
        Err(error) => {
            Err(Failure::usage(format!("it is not JSON: {error}")).help("a file is named with --context @FILE"))
        }
    }
}

/// The line of the expression in which something is wrong, with a caret below the place.
fn pointed(expression: &str, offset: usize, caret: &str) -> String {
    let before: String = expression.chars().take(offset).collect();
    let number = before.matches('\n').count();
    let line = expression.lines().nth(number).unwrap_or_default();
    let column = before.chars().rev().take_while(|c| *c != '\n').count();
    let indent: String =
        line.chars().chain(std::iter::repeat(' ')).take(column).map(|c| if c == '\t' { c } else { ' ' }).collect();
    format!("  {line}\n  {indent}{caret}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_the_place() {
        insta::assert_snapshot!(pointed("ü == \n  1 +", 9, "^"), @r"
          1 +
           ^
        ");
        assert_eq!(pointed("a", 1, "^"), "  a\n   ^");
    }
}
