//! A tree as JSON for those who look for names in it, without what is no name: a list of a hundred thousand constants would take a
//! hundred times its text.
//!
//! Of a list all constants and parameters but the first are left out, and so are rows of them; of a node its fields that say nothing, and
//! numbers, but for where a column reference stands. Kinds of nodes and their nesting are as serde_json has them.

use serde::ser::{self, Serialize, SerializeMap, SerializeSeq, SerializeStruct};
use serde_json::{Map, Value};

/// None: the tree could not be walked.
pub(super) fn of(tree: &(impl Serialize + ?Sized)) -> Option<Value> {
    tree.serialize(Sketch).ok()
}

/// `{"node": {"AConst": …}}`, or a row of such.
fn is_plain(value: &Value) -> bool {
    let Some(node) = value.get("node") else { return false };
    node.get("AConst").is_some()
        || node.get("ParamRef").is_some()
        || node
            .get("List")
            .and_then(|list| list.get("items")?.as_array())
            .is_some_and(|items| items.iter().all(is_plain))
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Number(_) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

struct Sketch;

#[derive(Debug)]
struct Failed;

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the tree cannot be walked")
    }
}

impl std::error::Error for Failed {}

impl ser::Error for Failed {
    fn custom<T: std::fmt::Display>(_: T) -> Failed {
        Failed
    }
}

#[derive(Default)]
struct List(Vec<Value>);

#[derive(Default)]
struct Fields {
    /// A column reference keeps its place.
    is_column: bool,
    fields: Map<String, Value>,
    key: String,
}

/// A variant with fields: its name, and these.
struct Variant<T>(&'static str, T);

fn variant(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_string(), value)]))
}

impl List {
    fn add(&mut self, item: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        let item = item.serialize(Sketch)?;
        if self.0.is_empty() || !is_plain(&item) {
            self.0.push(item);
        }
        Ok(())
    }
}

impl Fields {
    fn add(&mut self, key: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failed> {
        let value = value.serialize(Sketch)?;
        if !says_nothing(&value) || self.is_column && key == "location" {
            self.fields.insert(key.to_string(), value);
        }
        Ok(())
    }
}

macro_rules! numbers {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name(self, _: $kind) -> Result<Value, Failed> { Ok(Value::from(0)) })*
    };
}

impl ser::Serializer for Sketch {
    type Ok = Value;
    type Error = Failed;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = Variant<List>;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Variant<Fields>;

    numbers!(serialize_i8: i8, serialize_i16: i16, serialize_i64: i64, serialize_u8: u8, serialize_u16: u16,
        serialize_u32: u32, serialize_u64: u64, serialize_f32: f32, serialize_f64: f64);

    fn serialize_i32(self, value: i32) -> Result<Value, Failed> {
        Ok(Value::from(value))
    }

    fn serialize_bool(self, value: bool) -> Result<Value, Failed> {
        Ok(Value::Bool(value))
    }

    fn serialize_char(self, value: char) -> Result<Value, Failed> {
        Ok(Value::String(value.to_string()))
    }

    fn serialize_str(self, value: &str) -> Result<Value, Failed> {
        Ok(Value::String(value.to_string()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Value, Failed> {
        Ok(Value::Null)
    }

    fn serialize_none(self) -> Result<Value, Failed> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Failed> {
        value.serialize(Sketch)
    }

    fn serialize_unit(self) -> Result<Value, Failed> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Failed> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<Value, Failed> {
        Ok(Value::String(name.to_string()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Value, Failed> {
        value.serialize(Sketch)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Value, Failed> {
        Ok(variant(name, value.serialize(Sketch)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List, Failed> {
        Ok(List::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<List, Failed> {
        Ok(List::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List, Failed> {
        Ok(List::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Variant<List>, Failed> {
        Ok(Variant(name, List::default()))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields, Failed> {
        Ok(Fields::default())
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields, Failed> {
        Ok(Fields {
            is_column: name == "ColumnRef",
            ..Fields::default()
        })
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Variant<Fields>, Failed> {
        Ok(Variant(name, Fields::default()))
    }
}

impl SerializeSeq for List {
    type Ok = Value;
    type Error = Failed;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Failed> {
        self.add(item)
    }

    fn end(self) -> Result<Value, Failed> {
        Ok(Value::Array(self.0))
    }
}

impl ser::SerializeTuple for List {
    type Ok = Value;
    type Error = Failed;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Failed> {
        self.add(item)
    }

    fn end(self) -> Result<Value, Failed> {
        Ok(Value::Array(self.0))
    }
}

impl ser::SerializeTupleStruct for List {
    type Ok = Value;
    type Error = Failed;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Failed> {
        self.add(item)
    }

    fn end(self) -> Result<Value, Failed> {
        Ok(Value::Array(self.0))
    }
}

impl ser::SerializeTupleVariant for Variant<List> {
    type Ok = Value;
    type Error = Failed;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Failed> {
        self.1.add(item)
    }

    fn end(self) -> Result<Value, Failed> {
        Ok(variant(self.0, Value::Array(self.1.0)))
    }
}

impl SerializeMap for Fields {
    type Ok = Value;
    type Error = Failed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        self.key = match key.serialize(Sketch)? {
            Value::String(key) => key,
            _ => return Err(Failed),
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        let key = std::mem::take(&mut self.key);
        self.add(&key, value)
    }

    fn end(self) -> Result<Value, Failed> {
        Ok(Value::Object(self.fields))
    }
}

impl SerializeStruct for Fields {
    type Ok = Value;
    type Error = Failed;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Failed> {
        self.add(key, value)
    }

    fn end(self) -> Result<Value, Failed> {
        Ok(Value::Object(self.fields))
    }
}

impl ser::SerializeStructVariant for Variant<Fields> {
    type Ok = Value;
    type Error = Failed;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Failed> {
        self.1.add(key, value)
    }

    fn end(self) -> Result<Value, Failed> {
        Ok(variant(self.0, Value::Object(self.1.fields)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splice::one_statement;

    #[test]
    fn constants_are_left_out_and_names_are_not() {
        let tree = |sql: &str| of(&one_statement(sql).unwrap()).unwrap().to_string();
        // Blanks instead, so that the columns stand where they stand.
        let listed = |one: &str| format!("UPDATE t SET a = f(b) WHERE c IN (1, {} g(2), d)", one.repeat(1_000));
        let few = tree(&listed("            "));
        assert_eq!(tree(&listed("3, $1, 'x', ")), few);
        for name in ["\"t\"", "\"a\"", "\"f\"", "\"b\"", "\"c\"", "\"g\"", "\"d\""] {
            assert!(few.contains(name), "{name}: {few}");
        }
        let rows = |rows: &str| tree(&format!("INSERT INTO t VALUES (1), {rows} (h(1))"));
        assert_eq!(rows(&"(2, 'a'), ".repeat(100)), rows(""));
        assert!(tree("SELECT set_config('search_path', $1, false)").contains("\"search_path\""));
        assert!(tree("UPDATE t SET a = DEFAULT").contains("\"SetToDefault\""));
    }
}
