// Functions that are inlined into each other, generics and closures.
use std::collections::HashMap;

mod shapes {
    pub trait Area {
        fn area(&self) -> u64;
    }
    pub struct Square(pub u64);
    impl Area for Square {
        #[inline(always)]
        fn area(&self) -> u64 {
            self.0 * self.0
        }
    }
    #[inline(never)]
    pub fn total<T: Area>(all: &[T]) -> u64 {
        all.iter().map(|s| s.area()).sum()
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let mut by = HashMap::new();
    for w in &words {
        *by.entry(w.len()).or_insert(0u64) += 1;
    }
    let all: Vec<_> = by.keys().map(|n| shapes::Square(*n as u64)).collect();
    println!("{} {:?}", shapes::total(&all), by);
}
