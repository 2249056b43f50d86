//! What each of the two readers finds alone, over queries of PostgreSQL's own regression tests: neither is enough by itself.

use lockkeeper::plan::grammar::{STACK_BYTES, this_thread_is_deep};
use lockkeeper::plan::uses::{Read, read};

const QUERIES: &str = include_str!("queries.sql");

fn queries() -> impl Iterator<Item = &'static str> {
    QUERIES.lines().filter(|line| !line.starts_with("--"))
}

fn with_room<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    thread.spawn(work).expect("a thread").join().expect("the work is done")
}

/// How many, and the first few of them.
#[derive(Debug, Default)]
struct Several(usize, Vec<String>);

impl Several {
    fn add(&mut self, sql: &str, what: &[String]) {
        self.0 += 1;
        if self.1.len() < 8 {
            self.1.push(format!("{sql}\n      {}", what.join(" ")));
        }
    }
}

#[test]
fn what_each_reader_finds_alone_is_known() {
    let (all, neither, second_not, grammar_more, second_more) = with_room(|| {
        this_thread_is_deep();
        let (mut all, mut neither, mut second_not) = (0, Several::default(), Several::default());
        let (mut grammar_more, mut second_more) = (Several::default(), Several::default());
        for sql in queries() {
            let Read {
                uses,
                only_grammar,
                only_second,
                by_grammar,
                by_second,
                ..
            } = read(sql);
            all += 1;
            if uses.is_none() {
                neither.add(sql, &[]);
            }
            if by_grammar && !by_second {
                second_not.add(sql, &[]);
            }
            if !only_grammar.is_empty() {
                grammar_more.add(sql, &only_grammar);
            }
            if !only_second.is_empty() {
                second_more.add(sql, &only_second);
            }
        }
        (all, neither, second_not, grammar_more, second_more)
    });
    println!(
        "of {all}: neither reads {neither:#?}\nonly the grammar reads {second_not:#?}\nonly the grammar finds {grammar_more:#?}\nonly the second finds {second_more:#?}"
    );
    assert!(all >= 2_000, "{all}");
    // Those are wrong, as the regression tests mean them to be.
    assert_eq!(neither.0, 13);
    // A use that either finds counts. Should one of these grow, a reader has become worse.
    assert!(second_not.0 * 15 < all, "{}", second_not.0);
    assert!(grammar_more.0 * 40 < all, "{}", grammar_more.0);
    assert!(second_more.0 * 40 < all, "{}", second_more.0);
}
