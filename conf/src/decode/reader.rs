//! The serde side: one value, and the walks over the objects and arrays below it.

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
    value::{BorrowedStrDeserializer, StrDeserializer},
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Number, Value};

use super::{DecodeError, entry};

/// Reads one value.
#[derive(Clone, Copy)]
pub(super) struct Reader<'de> {
    value: &'de Value,
}

impl<'de> Reader<'de> {
    pub(super) fn new(value: &'de Value) -> Reader<'de> {
        Reader { value }
    }

    fn mismatch(self, expected: &dyn serde::de::Expected) -> DecodeError {
        let unexpected = match self.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Number(number) => number_kind(number),
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        };
        DecodeError::invalid_type(unexpected, expected)
    }
}

fn number_kind(number: &Number) -> Unexpected<'static> {
    number
        .as_u64()
        .map(Unexpected::Unsigned)
        .or_else(|| number.as_i64().map(Unexpected::Signed))
        .unwrap_or_else(|| Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)))
}

/// The whole number that a float without fraction stands for.
fn whole(number: &Number) -> Option<i64> {
    // Up to 2^53 every whole float is the number that was written; beyond, a neighbour might be.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64()?;
    (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i64)
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let Value::Number(number) = self.value else {
                return Err(self.mismatch(&visitor));
            };
            if let Some(value) = number.as_u64() {
                return visitor.visit_u64(value);
            }
            match number.as_i64().or_else(|| whole(number)) {
                Some(value) if value >= 0 => visitor.visit_u64(value.unsigned_abs()),
                Some(value) => visitor.visit_i64(value),
                None => Err(self.mismatch(&visitor)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = DecodeError;

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match number_kind(number) {
                Unexpected::Unsigned(value) => visitor.visit_u64(value),
                Unexpected::Signed(value) => visitor.visit_i64(value),
                _ => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(values) => visitor.visit_seq(Elements::new(values)),
            Value::Object(object) => visitor.visit_map(Entries::all(object)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::Object(object) => visitor.visit_map(Entries::of_struct(object, fields)),
            // A whole document of `null` is an empty one.
            Value::Null => visitor.visit_map(Entries::none()),
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.value {
            Value::String(variant) => visitor.visit_enum(Choice {
                variant,
                content: None,
            }),
            Value::Object(object) => {
                let mut entries = object.iter().filter(|(_, value)| !value.is_null());
                match (entries.next(), entries.next()) {
                    (Some((variant, content)), None) => visitor.visit_enum(Choice {
                        variant,
                        content: Some(content),
                    }),
                    _ => Err(DecodeError::custom("expected an object with one key")),
                }
            }
            _ => Err(self.mismatch(&visitor)),
        }
    }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

/// The elements of an array, counted for the path of an error.
struct Elements<'de> {
    values: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
}

impl<'de> Elements<'de> {
    fn new(values: &'de [Value]) -> Elements<'de> {
        Elements {
            values: values.iter().enumerate(),
        }
    }
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        self.values
            .next()
            .map(|(index, value)| {
                seed.deserialize(Reader::new(value))
                    .map_err(|error| error.at(index))
            })
            .transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

/// One entry of an object.
struct Entry<'de> {
    /// What serde is told: the struct's spelling of the field, or the map's key.
    name: &'de str,
    /// What the document says: for errors.
    spelling: &'de str,
    value: &'de Value,
}

/// The entries of an object that are not `null`.
struct Entries<'de> {
    entries: std::vec::IntoIter<Entry<'de>>,
    current: Option<Entry<'de>>,
}

impl<'de> Entries<'de> {
    fn none() -> Entries<'de> {
        Entries::new(Vec::new())
    }

    fn new(entries: Vec<Entry<'de>>) -> Entries<'de> {
        Entries {
            entries: entries.into_iter(),
            current: None,
        }
    }

    fn all(object: &'de Map<String, Value>) -> Entries<'de> {
        let entries = object.iter().filter(|(_, value)| !value.is_null());
        Entries::new(
            entries
                .map(|(key, value)| Entry {
                    name: key,
                    spelling: key,
                    value,
                })
                .collect(),
        )
    }

    fn of_struct(object: &'de Map<String, Value>, fields: &'static [&'static str]) -> Entries<'de> {
        let found = fields.iter().filter_map(|name| {
            let (spelling, value) = entry(object, name)?;
            Some(Entry {
                name,
                spelling,
                value,
            })
        });
        Entries::new(found.collect())
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some(entry) = self.entries.next() else {
            return Ok(None);
        };
        let key = seed
            .deserialize(BorrowedStrDeserializer::new(entry.name))
            .map_err(|error: DecodeError| error.under(entry.spelling))?;
        self.current = Some(entry);
        Ok(Some(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        let entry = self
            .current
            .take()
            .ok_or_else(|| DecodeError::custom("a value was asked for before its key"))?;
        seed.deserialize(Reader::new(entry.value))
            .map_err(|error| error.under(entry.spelling))
    }
}

/// A variant of an enum, with its content when there is one.
struct Choice<'de> {
    variant: &'de str,
    content: Option<&'de Value>,
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Self), DecodeError> {
        let variant = seed.deserialize(StrDeserializer::new(self.variant))?;
        Ok((variant, self))
    }
}

impl<'de> Choice<'de> {
    fn content(&self) -> Result<Reader<'de>, DecodeError> {
        let content = self.content.map(Reader::new);
        content
            .ok_or_else(|| DecodeError::custom(format_args!("{:?} asks for a value", self.variant)))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(DecodeError::custom("takes no value").under(self.variant)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        seed.deserialize(self.content()?)
            .map_err(|error| error.under(self.variant))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.content()?
            .deserialize_any(visitor)
            .map_err(|error| error.under(self.variant))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.content()?
            .deserialize_struct("", fields, visitor)
            .map_err(|error| error.under(self.variant))
    }
}
