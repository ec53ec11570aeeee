//! The one door to the expression language.

use crate::flow::expr;
use serde_json::{Map, Value};

/// Whether an expression holds.
pub(super) fn condition(text: &str, names: &Map<String, Value>) -> Result<bool, String> {
    expr::eval(text, names).map(|value| expr::truthy(&value)).map_err(|error| error.message)
}
