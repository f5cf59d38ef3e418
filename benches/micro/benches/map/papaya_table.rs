//! papaya's map, as the others of `tables.rs`.

use msgtrans_lockfree::BuildKeyHasher;

use crate::tables::{Table, Value};

pub(crate) struct Papaya(papaya::HashMap<u64, Value, BuildKeyHasher>);

impl Table for Papaya {
    fn new() -> Self {
        Self(papaya::HashMap::with_hasher(BuildKeyHasher::default()))
    }

    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        self.0.pin().get(&key).cloned()
    }

    fn set(&self, key: u64, value: Value) {
        self.0.pin().insert(key, value);
    }

    fn remove(&self, key: u64) -> bool {
        self.0.pin().remove(&key).is_some()
    }

    fn write_and_sleep(&self, key: u64, mut sleep: impl FnMut()) {
        // As with ours: the guard stands, and nothing that anybody removes meanwhile can be freed.
        let pinned = self.0.pin();
        pinned.insert(key, Value::new(key));
        sleep();
    }
}
