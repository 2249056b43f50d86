//! A map that a ROLLBACK sets back: what is known of the files' tables, types and functions, however many there are.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

pub struct Journal<K, V> {
    now: HashMap<K, V>,
    /// What each change of the open transaction has replaced, in order; None outside of one.
    before: Option<Vec<(K, Option<V>)>>,
}

impl<K, V> Default for Journal<K, V> {
    fn default() -> Journal<K, V> {
        Journal {
            now: HashMap::new(),
            before: None,
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Journal<K, V> {
    pub fn begin(&mut self) {
        self.before.get_or_insert_default();
    }

    pub fn commit(&mut self) {
        self.before = None;
    }

    pub fn rollback(&mut self) {
        self.back_to(0);
        self.before = None;
    }

    /// A place to go [`Journal::back_to`] within the transaction.
    pub fn mark(&self) -> usize {
        self.before.as_ref().map_or(0, Vec::len)
    }

    pub fn back_to(&mut self, mark: usize) {
        let Some(before) = &mut self.before else { return };
        for (key, value) in before.drain(mark.min(before.len())..).rev() {
            match value {
                Some(value) => self.now.insert(key, value),
                None => self.now.remove(&key),
            };
        }
    }

    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.now.get(key)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let value = self.now.get_mut(key)?;
        if let Some(before) = &mut self.before {
            before.push((key.clone(), Some(value.clone())));
        }
        Some(value)
    }

    pub fn insert(&mut self, key: K, value: V) {
        let old = self.now.insert(key.clone(), value);
        if let Some(before) = &mut self.before {
            before.push((key, old));
        }
    }

    pub fn changed<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let before = self.before.iter().flatten();
        before.into_iter().any(|(changed, _)| changed.borrow() == key)
    }

    pub fn is_empty(&self) -> bool {
        self.now.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rollback_sets_back() {
        let mut map = Journal::default();
        map.insert("a", 1);
        map.begin();
        map.insert("a", 2);
        map.insert("b", 3);
        let mark = map.mark();
        *map.get_mut(&"b").expect("there") = 4;
        map.insert("c", 5);
        map.back_to(mark);
        assert_eq!((map.get("a"), map.get("b"), map.get("c")), (Some(&2), Some(&3), None));
        map.rollback();
        assert_eq!((map.get("a"), map.get("b")), (Some(&1), None));
        map.begin();
        map.insert("a", 6);
        map.commit();
        map.rollback();
        assert_eq!(map.get("a"), Some(&6));
    }
}
