//! Tells values to whoever runs this program: a line for each, marked with a word that is read at the start.
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::sync::Mutex;

static MARK: Mutex<String> = Mutex::new(String::new());

pub fn open() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok();
    *MARK.lock().unwrap() = line.trim().to_string();
}

pub fn value<T: Told>(index: usize, value: &T) {
    let mut text = String::new();
    value.spell(&mut text);
    println!("\n{} {} {}", MARK.lock().unwrap(), index, text);
    std::io::stdout().flush().ok();
}

pub trait Told {
    fn spell(&self, text: &mut String);
}

macro_rules! plain {
    ($($kind:ty),*) => { $(impl Told for $kind {
        fn spell(&self, text: &mut String) { text.push_str(&self.to_string()); }
    })* };
}
plain!(bool, i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

impl Told for f64 {
    fn spell(&self, text: &mut String) {
        text.push_str(&format!("[\"f\",\"{:e}\"]", self));
    }
}
impl Told for f32 {
    fn spell(&self, text: &mut String) {
        (*self as f64).spell(text);
    }
}
impl Told for str {
    fn spell(&self, text: &mut String) {
        text.push_str("[\"x\",\"");
        for byte in self.bytes() {
            text.push_str(&format!("{:02x}", byte));
        }
        text.push_str("\"]");
    }
}
impl Told for String {
    fn spell(&self, text: &mut String) {
        self.as_str().spell(text);
    }
}
impl Told for char {
    fn spell(&self, text: &mut String) {
        self.to_string().spell(text);
    }
}
impl<T: Told + ?Sized> Told for &T {
    fn spell(&self, text: &mut String) {
        (**self).spell(text);
    }
}
impl<T: Told> Told for Option<T> {
    fn spell(&self, text: &mut String) {
        match self {
            Some(value) => value.spell(text),
            None => text.push_str("null"),
        }
    }
}

fn spell_items<'a, T: Told + 'a>(tag: &str, items: impl Iterator<Item = &'a T>, text: &mut String) {
    text.push_str(&format!("[\"{}\",[", tag));
    for (number, item) in items.enumerate() {
        if number > 0 {
            text.push(',');
        }
        item.spell(text);
    }
    text.push_str("]]");
}
fn spell_pairs<'a, K: Told + 'a, V: Told + 'a>(pairs: impl Iterator<Item = (&'a K, &'a V)>, text: &mut String) {
    text.push_str("[\"m\",[");
    for (number, (key, value)) in pairs.enumerate() {
        text.push_str(if number > 0 { ",[" } else { "[" });
        key.spell(text);
        text.push(',');
        value.spell(text);
        text.push(']');
    }
    text.push_str("]]");
}
impl<T: Told> Told for Vec<T> {
    fn spell(&self, text: &mut String) {
        spell_items("l", self.iter(), text);
    }
}
impl<T: Told> Told for HashSet<T> {
    fn spell(&self, text: &mut String) {
        spell_items("s", self.iter(), text);
    }
}
impl<T: Told> Told for BTreeSet<T> {
    fn spell(&self, text: &mut String) {
        spell_items("s", self.iter(), text);
    }
}
impl<K: Told, V: Told> Told for HashMap<K, V> {
    fn spell(&self, text: &mut String) {
        spell_pairs(self.iter(), text);
    }
}
impl<K: Told, V: Told> Told for BTreeMap<K, V> {
    fn spell(&self, text: &mut String) {
        spell_pairs(self.iter(), text);
    }
}
