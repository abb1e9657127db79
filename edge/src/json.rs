//! JSON of requests, read into structs.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::{Map, Value};

/// Reads an object, and nothing else. What serde derives for a struct also takes a list, field by field, which
/// no document describes.
pub fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let object = Map::<String, Value>::deserialize(from)?;
    T::deserialize(Value::Object(object)).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Eq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Filter {
        name: Option<String>,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "object")]
        filter: Filter,
    }

    #[test]
    fn a_list_is_no_struct() {
        let read =
            |text: &str| object::<_, Body>(serde_json::from_str::<Value>(text).unwrap()).ok();
        let named =
            |name: Option<&str>| Some(Body { filter: Filter { name: name.map(Into::into) } });
        assert_eq!(read(r#"{"filter":{"name":"a"}}"#), named(Some("a")));
        assert_eq!(read("{}"), named(None));
        for no_object in [r#"{"filter":["a"]}"#, r#"[{"name":"a"}]"#, r#"{"filter":null}"#, "null"]
        {
            assert_eq!(read(no_object), None, "{no_object}");
        }
    }
}
