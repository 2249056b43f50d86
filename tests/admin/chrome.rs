//! A headless Chromium, driven over its debugging pipe (file descriptors 3 and 4, messages that end with NUL).

use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Chrome {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    number: u64,
    /// What the page complained of: exceptions, and what the console or the security policy said.
    pub complaints: Vec<String>,
    /// A dialog was opened by the page: `alert` and its kin.
    pub dialogs: u32,
    _profile: tempfile::TempDir,
}

impl Drop for Chrome {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: the call fills two descriptors, which are ours from then on.
    unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0, "a pipe");
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

impl Chrome {
    pub fn start() -> Chrome {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let found = names.iter().find(|name| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|dir| dir.join(name).exists())
        });
        let program = found.expect("Chromium is here: scripts/set-up test installs it");
        let profile = tempfile::tempdir().expect("a directory");
        let (their_in, our_out) = pipe();
        let (our_in, their_out) = pipe();
        let mut command = Command::new(program);
        command
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args([
                "--disable-extensions",
                "--disable-background-networking",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let (reads, writes) = (their_in.as_raw_fd(), their_out.as_raw_fd());
        // SAFETY: only dup2, fcntl and prctl, which may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // First out of the way, since one of them may be 3 or 4.
                let (reads, writes) = (
                    libc::fcntl(reads, libc::F_DUPFD, 10),
                    libc::fcntl(writes, libc::F_DUPFD, 10),
                );
                libc::dup2(reads, 3);
                libc::dup2(writes, 4);
                libc::close(reads);
                libc::close(writes);
                // It must not outlive a test that is killed.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().expect("Chromium starts");
        let mut chrome = Chrome {
            child,
            to: File::from(our_out),
            from: BufReader::new(File::from(our_in)),
            session: None,
            number: 0,
            complaints: Vec::new(),
            dialogs: 0,
            _profile: profile,
        };
        drop((their_in, their_out));
        let target = chrome.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = chrome.call("Target.attachToTarget", attach);
        chrome.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            chrome.call(domain, json!({}));
        }
        chrome
    }

    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .expect("Chromium listens");
        loop {
            let mut text = Vec::new();
            self.from.read_until(0, &mut text).expect("Chromium answers");
            assert_eq!(text.pop(), Some(0), "Chromium has ended");
            let answer: Value = serde_json::from_slice(&text).expect("JSON");
            if answer["id"] == self.number {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded") => {
                    self.complaints.push(answer["params"].to_string());
                }
                Some("Page.javascriptDialogOpening") => self.dialogs += 1,
                _ => {}
            }
        }
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn js(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    #[track_caller]
    pub fn until(&mut self, expression: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let value = self.js(expression);
            if !matches!(value, Value::Null | Value::Bool(false)) && value != json!(0) && value != json!("") {
                return value;
            }
            if Instant::now() > deadline {
                let page = self.js("document.body.innerText");
                panic!(
                    "not within 30 s: {expression}; {:?}; the page says:\n{page}",
                    self.complaints
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn open(&mut self, port: u16, path: &str) {
        self.call(
            "Page.navigate",
            json!({ "url": format!("http://127.0.0.1:{port}{path}") }),
        );
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'");
    }

    pub fn size(&mut self, width: u32, height: u32) {
        let mobile = width < 600;
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.call("Emulation.setDeviceMetricsOverride", parameters);
    }

    pub fn dark(&mut self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": value });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// As somebody would type it.
    pub fn press(&mut self, key: &str) {
        let (text, code) = match key {
            "Enter" => ("\r", 13),
            "Tab" => ("", 9),
            "Escape" => ("", 27),
            " " => (" ", 32),
            _ => panic!("{key} is not known here"),
        };
        let down = json!({ "type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code }),
        );
    }

    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// To be looked at: LOCKKEEPER_SCREENSHOTS names a directory.
    pub fn screenshot(&mut self, name: &str) {
        let Some(dir) = std::env::var_os("LOCKKEEPER_SCREENSHOTS") else {
            return;
        };
        let answer = self.call(
            "Page.captureScreenshot",
            json!({ "format": "png", "captureBeyondViewport": true }),
        );
        let encoded = answer["data"].as_str().expect("a picture");
        let picture = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).expect("base64");
        std::fs::write(std::path::Path::new(&dir).join(format!("{name}.png")), picture).expect("a file");
    }
}
