//! The SQL of `lockkeeper.told`, by which one of several proxies tells of something, and once.
//!
//! It is made together with `lockkeeper.usage`, and written by the control connections alone.

pub const TABLES: [&str; 1] = ["told"];

/// Of these subjects of an event those that nobody has told of. In the order of the key, so that two proxies never wait for each other.
pub const CLAIM: &str = "INSERT INTO lockkeeper.told (event, subject) SELECT DISTINCT $1::text, s FROM pg_catalog.unnest($2::text[]) s ORDER BY s \
     ON CONFLICT (event, subject) DO NOTHING RETURNING subject";

/// What has been told of so long ago that it is worth telling again.
pub const FORGET: &str = "DELETE FROM lockkeeper.told WHERE at < pg_catalog.now() - '400 days'::interval";
