//! The review page in a real browser: what somebody who was asleep sees, that text stays text, that a view can be sent to
//! a colleague, that it works by keyboard and on a phone, and that its colours can be read.

use super::chrome::Chrome;
use super::{Admin, LARGE, TOKEN, until};
use lockkeeper_testkit::raw::{Raw, frame};
use lockkeeper_testkit::{QUICK, Stage, cluster};
use serde_json::json;

const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";

/// A night: one change done, one refused, one failed, all by an application with a name that would be markup.
fn night(admin: &Admin) {
    let sql = format!(
        "{LARGE};\nSET application_name = '<b>nightly</b>';\n\
         ALTER TABLE users ADD COLUMN \"{EVIL}\" text DEFAULT '{EVIL}';\n\
         CREATE INDEX ON users (name);\n"
    );
    admin.stage.psql(&sql).ok();
    for (sql, expect) in [
        ("ALTER TABLE users RENAME COLUMN name TO full_name", "renaming column"),
        ("CREATE UNIQUE INDEX twice ON users ((id / 2))", "duplicated"),
    ] {
        let ran = admin.stage.psql(sql);
        assert!(ran.stderr.contains(expect), "{ran:?}");
    }
}

#[test]
fn the_morning_after() {
    let admin = Admin::new("morning");
    night(&admin);
    let mut chrome = Chrome::start();
    chrome.size(1200, 900);
    chrome.open(admin.port, "/");
    chrome.until("document.querySelectorAll('.statement').length === 4");

    // In one minute: what ran, by whom, what was changed, did anyone wait, is anything left to do.
    let answers = chrome.js("document.getElementById('answers').innerText");
    let answers = answers.as_str().expect("text");
    for expect in [
        "4 statements",
        "<b>nightly</b>",
        "3 rewritten, 1 refused",
        "nobody seen",
        "1 thing",
        "failed: CREATE UNIQUE INDEX twice",
    ] {
        assert!(answers.contains(expect), "{expect} is not in:\n{answers}");
    }
    check_story(&mut chrome);
    check_that_text_is_text(&mut chrome);
    check_filters(&mut chrome, &admin);
    check_keyboard(&mut chrome, &admin);
    check_sizes_and_colours(&mut chrome);
    check_overrides(&mut chrome, &admin);
    assert_eq!(chrome.dialogs, 0, "the page ran what was only text");
    assert!(chrome.complaints.is_empty(), "{:#?}", chrome.complaints);
}

/// What somebody let through, and why, is seen without opening anything.
fn check_overrides(chrome: &mut Chrome, admin: &Admin) {
    let sql = "SET lockkeeper.override = 'drop-column: ticket 42';\nALTER TABLE users DROP COLUMN pad;\n";
    admin.stage.psql(sql).ok();
    chrome.open(admin.port, "/");
    chrome.until("document.querySelectorAll('.statement').length === 5");
    for place in ["#answers", ".statement .who"] {
        let text = chrome.js(&format!("document.querySelector('{place}').innerText"));
        assert!(
            text.as_str()
                .is_some_and(|text| text.contains("drop-column overridden: ticket 42")),
            "{place}: {text}"
        );
    }
}

fn check_story(chrome: &mut Chrome) {
    chrome.js("[...document.querySelectorAll('.statement')].find((s) => s.innerText.includes('CREATE INDEX')).querySelector('summary').click()");
    let story = chrome.until("document.querySelector('.statement details[open] .story')?.innerText");
    let story = story.as_str().expect("text");
    for expect in [
        "What was asked",
        "CREATE INDEX ON users (name)",
        "nonconcurrent-index",
        "CREATE INDEX CONCURRENTLY",
        "SHARE UPDATE EXCLUSIVE",
        "Production-size data? public.users: ",
        "Backwards compatible? no rule found anything taken away",
        "Concurrent? readers and writers went on: SHARE UPDATE EXCLUSIVE",
        "Rollback plan? 1 statement, below",
        "Query times before and after: ",
        "Locks seen: nobody seen waiting behind it",
        "Data verified: 0 INVALID indexes, 0 NOT VALID constraints",
        "DROP INDEX CONCURRENTLY IF EXISTS public.users_name_idx;",
    ] {
        assert!(story.contains(expect), "{expect} is not in:\n{story}");
    }
}

fn check_that_text_is_text(chrome: &mut Chrome) {
    let shown = chrome.js("document.getElementById('statements').innerText.includes('<script>alert(1)</script>')");
    assert_eq!(shown, json!(true));
    // Whatever is open: no markup has come from the log.
    chrome.js("document.querySelectorAll('.statement details').forEach((d) => { d.open = true; })");
    chrome.until("document.querySelectorAll('.story').length === 4");
    let made = chrome
        .js("[document.querySelectorAll('main script, main img, main b.nightly').length, document.images.length]");
    assert_eq!(made, json!([0, 0]));
    chrome.js("document.querySelectorAll('.statement details').forEach((d) => { d.open = false; })");
}

fn check_filters(chrome: &mut Chrome, admin: &Admin) {
    let ask = |chrome: &mut Chrome| chrome.js("location.search");
    chrome.js("document.querySelector('[name=text]').focus()");
    chrome.type_text("full_name");
    chrome.press("Enter");
    chrome.until("document.querySelectorAll('.statement').length === 1");
    assert_eq!(ask(chrome), json!("?text=full_name"));
    // A colleague opens the same address.
    let mut colleague = Chrome::start();
    colleague.open(admin.port, "/?action=reject&text=full_name");
    colleague.until("document.querySelectorAll('.statement').length === 1");
    assert_eq!(
        colleague.js("document.querySelector('[name=action]').value"),
        json!("reject")
    );
    assert!(
        colleague
            .js("document.getElementById('count').innerText")
            .to_string()
            .contains("filtered by")
    );
    colleague.open(admin.port, "/?since=nonsense");
    let problem =
        colleague.until("!document.getElementById('problem').hidden && document.getElementById('problem').innerText");
    assert!(problem.to_string().contains("since"), "{problem}");
    colleague.open(admin.port, "/?text=nothing-has-this");
    colleague.until("document.getElementById('count').innerText.includes('No statement matches')");
    // And one statement has an address of its own, which shows it open.
    let id = chrome.js("document.querySelector('.statement').dataset.id");
    let id = id.as_str().expect("an ID");
    colleague.open(admin.port, &format!("/?id={id}"));
    colleague.until("document.querySelectorAll('.statement').length === 1 && document.querySelector('.story')");
    // Back, and everything.
    chrome.js("history.back()");
    chrome.until("document.querySelectorAll('.statement').length === 4");
    assert_eq!(ask(chrome), json!(""));
}

/// Nothing but Tab, Enter and Escape.
fn check_keyboard(chrome: &mut Chrome, admin: &Admin) {
    chrome.open(admin.port, "/?");
    chrome.until("document.querySelectorAll('.statement').length === 4");
    chrome.press("Tab");
    assert_eq!(
        chrome.js("document.activeElement.innerText"),
        json!("Skip to the statements")
    );
    chrome.press("Enter");
    chrome.until("document.activeElement.id === 'timeline'");
    for _ in 0..30 {
        chrome.press("Tab");
        if chrome.js("document.activeElement.tagName === 'SUMMARY' && !!document.activeElement.closest('.statement')")
            == json!(true)
        {
            break;
        }
    }
    let outline = chrome.js("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, json!("solid"), "the focus can be seen");
    chrome.press("Enter");
    chrome.until("document.activeElement.parentElement.open === true");
    // It stays where it is over the next updates.
    chrome.js("window.seen = 0; window.before = document.activeElement; const f = window.fetch; window.fetch = (...a) => { window.seen += 1; return f(...a); }");
    chrome.until("window.seen >= 4");
    assert_eq!(
        chrome.js("document.activeElement === window.before && window.before.isConnected"),
        json!(true)
    );
    chrome.press("Enter");
    chrome.until("document.activeElement.parentElement.open === false");
    // Every control has a name.
    let nameless = chrome.js(
        "[...document.querySelectorAll('button, input, select, progress, summary')].filter((e) => !(e.textContent || e.ariaLabel || (e.labels && e.labels.length) || '').toString().trim().length).map((e) => e.outerHTML)",
    );
    assert_eq!(nameless, json!([]));
}

/// WCAG's contrast of 4.5 for every text that is there, in both colour schemes; no sideways scrolling on a phone.
fn check_sizes_and_colours(chrome: &mut Chrome) {
    const CONTRAST: &str = "(() => {
        const light = ([r, g, b]) => { const f = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
        const rgb = (s) => s.match(/[\\d.]+/g).map(Number);
        const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.99) return c; } return [255, 255, 255]; };
        const bad = [];
        for (const e of document.querySelectorAll('body *')) {
            if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
            const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
            const ratio = (a + 0.05) / (b + 0.05);
            if (ratio < 4.5) bad.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className} ${e.textContent.slice(0, 30)}`);
        }
        return bad;
    })()";
    chrome.js("document.querySelectorAll('.statement details').forEach((d) => { d.open = true; })");
    chrome.until("document.querySelectorAll('.story').length === 4");
    for (scheme, width) in [("light", 1200), ("dark", 1200), ("light", 360), ("dark", 360)] {
        chrome.dark(scheme == "dark");
        chrome.size(width, 800);
        let bad = chrome.js(CONTRAST);
        assert_eq!(bad, json!([]), "{scheme}, {width} wide");
        let sideways = chrome.js("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(sideways, json!(0), "{scheme}, {width} wide");
        chrome.screenshot(&format!("morning-{scheme}-{width}"));
    }
}

#[test]
fn what_runs_now_is_seen_running() {
    // Tries long enough to be met by a page that asks every two seconds.
    let policy = format!("{QUICK}\n[lock]\ntimeout_ms = 1500\npause_ms = 100\n");
    let admin = Admin::with("now", &policy);
    admin.stage.psql(LARGE).ok();
    let mut holder = lockkeeper_testkit::raw::Raw::connect(admin.stage.cluster.port(), &admin.stage.database);
    holder.query("BEGIN");
    holder.query("SELECT 'a secret' FROM users LIMIT 1");
    let mut client = lockkeeper_testkit::raw::Raw::connect(admin.stage.port, &admin.stage.database);
    client.send(&lockkeeper_testkit::raw::frame(
        b'Q',
        b"ALTER TABLE users ADD COLUMN waits int\0",
    ));

    let mut chrome = Chrome::start();
    chrome.size(1200, 900);
    chrome.open(admin.port, "/");
    chrome.until("document.getElementById('plans').innerText.includes('ALTER TABLE users ADD COLUMN waits')");
    let plans = chrome.until("/tries for the lock/.test(document.getElementById('plans').innerText) && document.getElementById('plans').innerText");
    assert!(
        plans.to_string().contains("step 1 of 1") && plans.to_string().contains("ACCESS EXCLUSIVE on "),
        "{plans}"
    );
    // The plan itself hardly ever waits in the server while somebody is sure to keep the lock; whoever goes there straight does.
    let mut straight = lockkeeper_testkit::raw::Raw::connect(admin.stage.cluster.port(), &admin.stage.database);
    let change = b"ALTER TABLE users ADD COLUMN straight int\0";
    straight.send(&lockkeeper_testkit::raw::frame(b'Q', change));
    // Who holds it and who waits, as a tree: the waiter below the holder.
    let tree = "document.querySelector('#locks .tree > li > ul > li')?.closest('.tree').innerText";
    chrome.until(&format!("({tree})?.includes('waits for AccessExclusiveLock on ')"));
    // Of what the server itself tells, in a try, the values are not shown.
    let locks = chrome.until(&format!("({tree})?.includes('SELECT ?') && {tree}"));
    let locks = locks.as_str().expect("text");
    assert!(
        locks.contains("holds") && locks.contains("waits for AccessExclusiveLock on "),
        "{locks}"
    );
    assert!(
        locks.contains("SELECT ? FROM users LIMIT ?") && !locks.contains("secret"),
        "{locks}"
    );
    chrome.screenshot("now");

    holder.query("COMMIT");
    straight.until_ready();
    client.until_ready();
    chrome.until("document.getElementById('plans').innerText.includes('No plan is running')");
    chrome.until("document.querySelectorAll('.statement').length === 1");
    assert!(chrome.complaints.is_empty(), "{:#?}", chrome.complaints);
}

#[test]
fn the_token_is_asked_for_where_it_is_needed() {
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN).expect("the token is written");
    let port = lockkeeper_cluster::free_port().expect("a free port");
    let (listen, token) = (format!("0.0.0.0:{port}"), token.display().to_string());
    let arguments = ["--admin", &listen, "--admin-token-file", &token];
    let stage = Stage::on(cluster(lockkeeper_testkit::MAJOR), "token", QUICK, &arguments);
    stage.psql("CREATE TABLE t (id int)").ok();
    until("it listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let mut chrome = Chrome::start();
    chrome.open(port, "/");
    chrome.until("document.getElementById('problem').innerText.includes('token')");
    assert_eq!(chrome.js("document.querySelectorAll('.statement').length"), json!(0));
    chrome.js("document.getElementById('unlock').click()");
    chrome.until("document.querySelector('dialog').open");
    // A wrong one is said to be at once.
    chrome.type_text("not-the-token-0123456789");
    chrome.press("Enter");
    chrome.until("!document.getElementById('token-wrong').hidden && document.getElementById('token-wrong').innerText.includes('not the token')");
    assert_eq!(chrome.js("sessionStorage.getItem('lockkeeper-token')"), json!(null));
    chrome.type_text(TOKEN);
    chrome.press("Enter");
    chrome.until("!document.querySelector('dialog').open");
    chrome.until("document.getElementById('about').innerText.includes('in front of') && document.getElementById('problem').hidden");
    // It is nowhere that outlives the tab.
    assert_eq!(
        chrome.js("document.cookie + JSON.stringify(localStorage) + location.href.includes('token')"),
        json!("{}false")
    );
}

/// Who was woken reads one line, sees the last day, and stops what has to be stopped.
#[test]
fn the_first_line_is_the_state_now() {
    let admin = Admin::new("state");
    night(&admin);
    let mut chrome = Chrome::start();
    chrome.size(1200, 900);
    chrome.open(admin.port, "/");
    chrome.until("document.getElementById('state').innerText === 'No plan runs, nobody waits for a lock.'");
    // One half hour has all of the night.
    chrome.until(
        "document.querySelectorAll('#strip li').length === 48 && document.querySelectorAll('#strip a').length >= 1",
    );
    let words = chrome.js("document.getElementById('day-words').innerText");
    assert_eq!(words, json!("2 plans, 1 refused, 1 failed."));
    chrome.js("document.querySelector('#strip a').click()");
    chrome.until("location.search.startsWith('?since=') && document.querySelectorAll('.statement').length > 0");
    chrome.open(admin.port, "/?rolled_back=1");
    chrome.until("document.getElementById('count').innerText.startsWith('No statement matches')");
    chrome.open(admin.port, "/");
    chrome.until("document.querySelectorAll('.statement').length === 4");
    chrome.js("document.getElementById('order').value = 'long'; document.getElementById('order').dispatchEvent(new Event('change'))");
    let took = "[...document.querySelectorAll('.statement meter')].map((m) => m.value)";
    chrome.until(&format!("(() => {{ const all = {took}; return all.length === 4 && all.every((v, n) => n === 0 || all[n - 1] >= v); }})()"));

    let mut holder = Raw::connect(admin.stage.cluster.port(), &admin.stage.database);
    holder.query("BEGIN; SELECT count(*) FROM users");
    let mut waits = Raw::connect(admin.stage.port, &admin.stage.database);
    waits.send(&frame(b'Q', b"ALTER TABLE users ADD COLUMN waits int\0"));
    chrome.until("document.getElementById('state').innerText.includes('1 plan runs, step 1 of 1') && document.getElementById('state').innerText.includes('1 plan waits for others')");
    chrome.until("document.getElementById('locks').innerText.includes('SELECT pg_terminate_backend(')");
    chrome.screenshot("state-now");
    chrome.js(&format!("sessionStorage.setItem('lockkeeper-token', '{TOKEN}')"));
    let press = |chrome: &mut Chrome, name: &str| {
        chrome.until(&format!(
            "[...document.querySelectorAll('#plans button')].some((b) => b.innerText === '{name}')"
        ));
        chrome.js(&format!(
            "[...document.querySelectorAll('#plans button')].find((b) => b.innerText === '{name}').click()"
        ));
    };
    press(&mut chrome, "Pause");
    chrome.until("document.getElementById('plans').innerText.includes('paused by somebody at the review page')");
    holder.query("COMMIT");
    chrome.until("document.getElementById('state').innerText.includes('1 paused')");
    press(&mut chrome, "Resume");
    assert_eq!(
        lockkeeper_testkit::raw::command_tags(&waits.until_ready()),
        ["ALTER TABLE"]
    );
    chrome.until("document.getElementById('state').innerText.startsWith('No plan runs')");
    for (name, dark, width) in [
        ("page-light", false, 1200),
        ("page-dark", true, 1200),
        ("page-phone", false, 390),
    ] {
        chrome.dark(dark);
        chrome.size(width, 900);
        chrome.screenshot(name);
    }
    assert!(chrome.complaints.is_empty(), "{:#?}", chrome.complaints);
}

/// A table's columns and who uses them, by mouse and by name; a name that is markup stays text.
#[test]
fn who_uses_what_is_asked() {
    let admin = Admin::new("uses");
    admin.stage.psql(LARGE).ok();
    let sql = format!(
        "SET application_name = '<b>nightly</b>'; SELECT name FROM users WHERE id = 7; SELECT 1 AS \"{EVIL}\" FROM users LIMIT 1;"
    );
    admin.stage.psql(&sql).ok();
    let mut chrome = Chrome::start();
    chrome.size(1200, 900);
    chrome.open(admin.port, "/");
    chrome.until("document.getElementById('usage').offsetParent !== null");
    chrome.js("document.querySelector('#usage summary').click()");
    let all = chrome.until("document.querySelector('#usage-found table')?.innerText");
    assert!(all.to_string().contains("users"), "{all}");
    chrome
        .js("[...document.querySelectorAll('#usage-found button')].find((b) => b.innerText.includes('users')).click()");
    let found = chrome.until("document.querySelector('#usage-found th:nth-child(2)')?.innerText === 'Column' && document.getElementById('usage-found').innerText");
    let found = found.as_str().expect("text");
    for expect in [
        "by this proxy alone",
        "name",
        "<b>nightly</b>",
        "SELECT name FROM users WHERE id = ?",
    ] {
        assert!(found.contains(expect), "{expect} is not in:\n{found}");
    }
    chrome.js("document.querySelector('#usage-form input').value = 'nowhere'; document.querySelector('#usage-form button').click()");
    chrome.until("document.getElementById('usage-found').innerText.includes('Nobody was seen')");
    assert_eq!(chrome.dialogs, 0, "the page ran what was only text");
    assert!(chrome.complaints.is_empty(), "{:#?}", chrome.complaints);
}
