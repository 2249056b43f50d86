//! A table's columns and keys, as the catalog has them, and which of its keys a rewrite can go by.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub owner: String,
    /// By the statistics.
    pub rows: u64,
    /// With indexes and TOAST.
    pub bytes: u64,
    pub unlogged: bool,
    /// Numbers of the columns that own a sequence.
    pub serial: Vec<i16>,
    pub columns: Vec<Column>,
    /// Those whose columns are all NOT NULL, the primary key first.
    pub keys: Vec<Key>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Column {
    pub num: i16,
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub type_oid: u32,
    pub collation: Option<String>,
    pub generated: bool,
    pub identity: bool,
    pub has_default: bool,
    pub domain: bool,
    /// What rows have that were there before the column: one value, which may be null.
    pub missing: Option<Vec<Option<String>>>,
    /// Its type's = is PostgreSQL's own.
    pub comparable: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Key {
    pub name: String,
    pub columns: Vec<i16>,
}

/// A column of the key by which rows are copied and logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub collation: Option<String>,
}

const INT2: u32 = 21;
const INT4: u32 = 23;
const INT8: u32 = 20;
const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;

impl Column {
    /// Two values are equal in the new column exactly when they were in the old one.
    fn stays_equal(&self, new: &Column) -> bool {
        let widens = matches!((self.type_oid, new.type_oid), (INT2, INT4 | INT8) | (INT4, INT8));
        // A value that is too long is an error, never cut.
        let texts = [TEXT, VARCHAR];
        let is_text = texts.contains(&self.type_oid) && texts.contains(&new.type_oid);
        let same = self.type_oid == new.type_oid && self.type_name == new.type_name;
        self.comparable
            && !self.generated
            && !new.generated
            && self.collation == new.collation
            && (widens || is_text || same)
    }
}

impl Table {
    /// By its number in this table: that of the table which CREATE TABLE … LIKE made of it. Those of dropped columns are left out there.
    pub fn number_in_copy(&self, num: i16) -> Option<i16> {
        let at = self.columns.iter().position(|column| column.num == num)?;
        i16::try_from(at + 1).ok()
    }

    /// The column of this table that this one of its copy was made of.
    pub fn origin(&self, of_copy: i16) -> Option<&Column> {
        self.columns.get(usize::try_from(of_copy).ok()?.checked_sub(1)?)
    }

    fn column(&self, num: i16) -> Option<&Column> {
        self.columns.iter().find(|column| column.num == num)
    }

    /// A key of the table whose values stay what they are, and an index of the new one that begins with it. `computed` are columns that get
    /// other values; `only` is the name of the one that is wanted.
    pub fn key_with(&self, new: &Table, computed: &[&str], only: Option<&str>) -> Option<(Vec<KeyColumn>, String)> {
        let wanted = self.keys.iter().filter(|key| only.is_none_or(|name| key.name == name));
        wanted.into_iter().find_map(|key| {
            let columns: Option<Vec<&Column>> = key.columns.iter().map(|num| self.column(*num)).collect();
            let numbers: Option<Vec<i16>> = key.columns.iter().map(|num| self.number_in_copy(*num)).collect();
            let (columns, numbers) = (columns?, numbers?);
            let index = new.keys.iter().find(|of_new| of_new.columns.starts_with(&numbers))?;
            let stays = columns.iter().zip(&numbers).all(|(column, num)| {
                !computed.contains(&column.name.as_str())
                    && new.column(*num).is_some_and(|of_new| column.stays_equal(of_new))
            });
            let key = columns.iter().map(|column| KeyColumn {
                name: column.name.clone(),
                type_name: column.type_name.clone(),
                collation: column.collation.clone(),
            });
            stays.then(|| (key.collect(), index.name.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(num: i16, name: &str, type_oid: u32, type_name: &str) -> Column {
        Column {
            num,
            name: name.into(),
            type_name: type_name.into(),
            type_oid,
            collation: None,
            generated: false,
            identity: false,
            has_default: false,
            domain: false,
            missing: None,
            comparable: true,
        }
    }

    fn table(columns: Vec<Column>, keys: &[(&str, &[i16])]) -> Table {
        Table {
            oid: 1,
            schema: "s".into(),
            name: "t".into(),
            owner: "o".into(),
            rows: 0,
            bytes: 0,
            unlogged: false,
            serial: Vec::new(),
            columns,
            keys: keys
                .iter()
                .map(|(name, columns)| Key {
                    name: (*name).into(),
                    columns: columns.to_vec(),
                })
                .collect(),
        }
    }

    #[test]
    fn a_key_is_one_whose_values_stay_equal() {
        let old = table(
            vec![column(2, "id", INT4, "integer"), column(4, "email", TEXT, "text")],
            &[("pk", &[2]), ("mail", &[4])],
        );
        let of = |type_oid, type_name, computed: &[&str]| {
            let new = table(
                vec![column(1, "id", type_oid, type_name), column(2, "email", TEXT, "text")],
                &[("pk", &[1]), ("mail", &[2])],
            );
            old.key_with(&new, computed, None).map(|(_, index)| index)
        };
        assert_eq!(of(INT8, "bigint", &[]).as_deref(), Some("pk"));
        // Values of another type may become equal, and computed ones may be anything.
        assert_eq!(of(INT2, "smallint", &[]).as_deref(), Some("mail"));
        assert_eq!(of(INT8, "bigint", &["id"]).as_deref(), Some("mail"));
        assert_eq!(of(INT8, "bigint", &["id", "email"]), None);
    }
}
