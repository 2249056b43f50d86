//! Forwarding allocates nothing per message: counted in the proxy's own worker thread, which runs in this process, in front
//! of a real PostgreSQL.

use lockkeeper::config::load_policy;
use lockkeeper::proxy;
use lockkeeper::proxy::settings::{Auth, Config, Limits, ServerAt, Target, Upstream, Upstreams};
use lockkeeper_testkit::raw::{Raw, c, command_tags, frame};
use lockkeeper_testkit::{Stage, cluster};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of worker threads so far.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static OF_WORKER: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: everything goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

fn count() {
    let of_worker = OF_WORKER.try_with(|of_worker| {
        // A thread has its name a little after its first allocation.
        of_worker.set(of_worker.get() || is_worker());
        of_worker.get()
    });
    if of_worker == Ok(true) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

/// By the name that the system has of the thread: asking Rust's runtime may allocate.
fn is_worker() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: the call writes at most 16 bytes, with the NUL.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.starts_with(b"worker-")
}

/// A proxy within this process, which ends with it.
fn serve(upstream: u16) -> u16 {
    let port = lockkeeper_cluster::free_port().expect("a free port");
    let config = Config {
        listen: vec![format!("127.0.0.1:{port}")],
        reuse_port: false,
        trusted: Default::default(),
        upstream: Upstreams {
            servers: vec![ServerAt {
                address: Upstream::Tcp {
                    host: "127.0.0.1".into(),
                    port: upstream,
                },
                tls: None,
            }],
            target: Target::Any,
        },
        audit: None,
        auth: Auth::PassThrough,
        console: None,
        control: None,
        webhook: None,
        client_tls: None,
        limits: Limits {
            threads: 1,
            ..Limits::default()
        },
    };
    std::thread::spawn(move || {
        proxy::serve(config, Default::default(), Box::new(|| load_policy("standard"))).expect("it serves")
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the proxy does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    port
}

const MESSAGES: u64 = 2_000;

/// In how many of so many rounds the worker allocated anything, after some that warm it up. What is remembered of a write is asked
/// anew every few seconds, and that takes memory.
fn allocations(mut round: impl FnMut()) -> u64 {
    (0..100).for_each(|_| round());
    let allocated = |_: &u64| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        round();
        ALLOCATIONS.load(Ordering::Relaxed) > before
    };
    (0..MESSAGES).filter(allocated).count() as u64
}

/// Parse (where it is not prepared), Bind, Describe, Execute, Sync.
fn extended(name: &str, parse: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(text) = parse {
        out.extend(frame(b'P', &[c(name), c(text), vec![0, 0]].concat()));
    }
    let value = b"\0\0\0\x01\0\0\0\x017\0\0".to_vec();
    out.extend(frame(b'B', &[c(""), c(name), value].concat()));
    out.extend(frame(b'D', b"P\0"));
    out.extend(frame(b'E', b"\0\0\0\0\0"));
    out.extend(frame(b'S', b""));
    out
}

// One test: the count is the process's.
#[test]
fn nothing_is_allocated_per_message() {
    let stage = Stage::without_proxy(cluster(18), "allocations");
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'x' FROM generate_series(1, 100) n",
    );
    let mut raw = Raw::connect(serve(stage.port), &stage.database);
    // It counts: a session cannot be opened without.
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > 10);

    let (select, update) = ("SELECT v FROM t WHERE id = $1", "UPDATE t SET v = 'y' WHERE id = $1");
    raw.send(&extended("select", Some(select)));
    raw.until_ready();
    raw.send(&extended("update", Some(update)));
    raw.until_ready();
    let simple = frame(b'Q', &c("SELECT v FROM t WHERE id = 7"));
    let simple_update = frame(b'Q', &c("UPDATE t SET v = 'y' WHERE id = 7"));
    for (what, sent, tag) in [
        ("simple", &simple, "SELECT 1"),
        ("extended", &extended("", Some(select)), "SELECT 1"),
        ("prepared", &extended("select", None), "SELECT 1"),
        ("simple update", &simple_update, "UPDATE 1"),
        ("extended update", &extended("", Some(update)), "UPDATE 1"),
        ("prepared update", &extended("update", None), "UPDATE 1"),
    ] {
        let got = allocations(|| {
            raw.send(sent);
            let answer = raw.until_ready();
            assert_eq!(command_tags(&answer), [tag], "{what}");
        });
        assert!(got < MESSAGES / 100, "{what}: {got} of {MESSAGES} rounds allocated");
    }

    let copy = "COPY (SELECT n FROM generate_series(1, 100000) n) TO STDOUT";
    assert_eq!(command_tags(&raw.query(copy)), ["COPY 100000"]);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert_eq!(command_tags(&raw.query(copy)), ["COPY 100000"]);
    let got = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert!(got < 100, "COPY: {got} allocations for 100,000 rows");
}
