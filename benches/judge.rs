//! What framing and judging cost: the walk over a server's rows and a client's query, the gate's look at the bytes, the shape of a point update, and reading DDL with the full grammar.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lockkeeper::plan::batches::shape::shape;
use lockkeeper::plan::facts::Facts;
use lockkeeper::plan::gate::gate;
use lockkeeper::plan::policy::Policy;
use lockkeeper::plan::reading::read;
use lockkeeper::plan::rules::RULES;
use lockkeeper::plan::{Place, plan};
use lockkeeper_wire::messages as wire;
use std::hint::black_box;

const POINT_UPDATE: &str = "UPDATE pgbench_accounts SET abalance = abalance + -4711 WHERE aid = 1234567;";
const POINT_SELECT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 1234567;";
const DDL: &str =
    "ALTER TABLE users ADD COLUMN verified boolean NOT NULL DEFAULT false, ALTER COLUMN name SET NOT NULL";

fn insert_of(rows: usize) -> String {
    let values: Vec<String> = (0..rows).map(|n| format!("({n}, 'name; of {n}', now())")).collect();
    format!("INSERT INTO users (id, name, created_at) VALUES {};", values.join(", "))
}

fn gate_of_statements(c: &mut Criterion) {
    let large = insert_of(1_000);
    let mut group = c.benchmark_group("gate");
    for (name, sql) in [
        ("point select", POINT_SELECT),
        ("point update", POINT_UPDATE),
        ("insert of 1,000 rows", &large),
    ] {
        group.throughput(Throughput::Bytes(sql.len() as u64));
        group.bench_function(name, |b| b.iter(|| gate(black_box(sql.as_bytes()))));
    }
    group.finish();
}

fn shape_of_an_update(c: &mut Criterion) {
    let mut scratch = Vec::new();
    c.bench_function("shape of a point update", |b| {
        b.iter(|| shape(black_box(POINT_UPDATE.as_bytes()), &mut scratch));
    });
}

fn reading_and_planning(c: &mut Criterion) {
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    let policy = Policy::embedded("standard", &names).expect("the standard policy");
    let facts = Facts::offline(180_000);
    c.bench_function("read a point update", |b| {
        b.iter(|| read(black_box(POINT_UPDATE.as_bytes()), true))
    });
    c.bench_function("read an ALTER TABLE", |b| {
        b.iter(|| read(black_box(DDL.as_bytes()), true))
    });
    let statement = read(DDL.as_bytes(), true).expect("one statement").remove(0);
    c.bench_function("plan an ALTER TABLE", |b| {
        b.iter(|| plan(black_box(&statement), &facts, &policy, Place::Alone));
    });
}

fn framing(c: &mut Criterion) {
    let mut group = c.benchmark_group("framing");
    for (name, bytes) in [("64 KB of rows of 1 B", 1), ("64 KB of rows of 1,000 B", 1_000)] {
        let mut rows = bytes::BytesMut::new();
        while rows.len() < 64 << 10 {
            wire::put_frame(&mut rows, b'D', |b| b.extend_from_slice(&vec![b'x'; bytes]));
        }
        group.throughput(Throughput::Bytes(rows.len() as u64));
        group.bench_function(name, |b| b.iter(|| wire::rows_len(black_box(&rows))));
    }
    let mut query = bytes::BytesMut::new();
    wire::put_query(&mut query, POINT_SELECT.as_bytes());
    group.throughput(Throughput::Elements(1));
    group.bench_function("one query", |b| {
        b.iter(|| {
            let query = black_box(&query);
            query
                .first_chunk()
                .and_then(wire::frame_len)
                .zip(wire::query_text(query))
        });
    });
    group.finish();
}

criterion_group!(
    benches,
    framing,
    gate_of_statements,
    shape_of_an_update,
    reading_and_planning
);
criterion_main!(benches);
