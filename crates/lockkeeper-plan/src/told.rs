//! The SQL of `lockkeeper.told`, by which one of several proxies tells of something, and once.
//!
//! It is made together with `lockkeeper.usage`, and written by the control connections alone.

pub const TABLES: [&str; 1] = ["told"];

/// Of these subjects of an event those that nobody has told of: a claim whose proxy has not been heard of is anybody's. In the order of the
/// key, so that two proxies never wait for each other.
pub const CLAIM: &str = "INSERT INTO lockkeeper.told AS t (event, subject) SELECT DISTINCT $1::text, s FROM pg_catalog.unnest($2::text[]) s ORDER BY s \
     ON CONFLICT (event, subject) DO UPDATE SET at = pg_catalog.now() \
     WHERE NOT t.delivered AND t.at < pg_catalog.now() - '5 minutes'::interval RETURNING t.subject";

/// What has become of claims: events, subjects, and whether each was delivered.
pub const KEEP: &str = "UPDATE lockkeeper.told t SET at = pg_catalog.now(), delivered = c.delivered FROM ROWS FROM (pg_catalog.unnest($1::text[]), \
     pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::bool[])) c(event, subject, delivered) \
     WHERE t.event = c.event AND t.subject = c.subject AND NOT t.delivered";

/// What has been told of so long ago that it is worth telling again.
pub const FORGET: &str = "DELETE FROM lockkeeper.told WHERE at < pg_catalog.now() - '400 days'::interval";
