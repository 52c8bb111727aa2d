//! JSON values into structs, forgiving what Go's decoder forgives.

mod error;
mod reader;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use error::DecodeError;

use reader::Reader;

/// Decodes `value` as a `T`.
///
/// Configurations are written for plugins in Go, and sent by runtimes in Go. So
/// - the fields of structs are found without regard to ASCII case (containerd sends `HostPort`);
///   keys of maps keep theirs;
/// - an entry whose value is `null` is absent, so `#[serde(default)]` applies;
/// - an integer may be written as a float without fraction (`80.0`, `1e3`);
/// - unknown keys are ignored, even under `deny_unknown_fields`.
///
/// Go's strictness is kept too: `"true"` is no boolean and `"80"` no number, and the error names
/// the key by its path.
///
/// serde collects `untagged` and internally tagged enums and `flatten`ed structs before it knows
/// their fields; inside those, keys must be written exactly. Where that matters, take a
/// [`Value`] and call this on it once its kind is seen.
///
/// # Errors
/// With the path of the value that is of another type than `T` has there.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    T::deserialize(Reader::new(value))
}

/// The value of `name` in `object` without regard to ASCII case, `None` when absent or `null`. The
/// exact spelling wins over others, and among others the last.
#[must_use]
pub fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    entry(object, name).map(|(_, value)| value)
}

fn entry<'a>(object: &'a Map<String, Value>, name: &str) -> Option<(&'a str, &'a Value)> {
    let mut found = None;
    for (key, value) in object {
        if value.is_null() || !key.eq_ignore_ascii_case(name) {
            continue;
        }
        found = Some((key.as_str(), value));
        if key == name {
            break;
        }
    }
    found
}
