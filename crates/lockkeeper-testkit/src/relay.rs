//! A relay between the proxy and the server that counts messages, and at one of them, before it is passed on, does harm.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What happens at the chosen message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The connection is lost: the message never arrives.
    Cut,
    /// SIGKILL to that process.
    KillProxy(i32),
    /// SIGTERM and SIGINT to the server's process of this session, as pg_terminate_backend and pg_cancel_backend send.
    Terminate,
    Cancel,
    /// SIGKILL to it, which makes the whole server start anew.
    KillBackend,
}

/// Whether a message is one that counts.
type Counts = fn(&[u8]) -> bool;

#[derive(Default)]
struct Plan {
    counted: u64,
    harm: Option<(u64, Harm)>,
    done: bool,
}

pub struct Relay {
    pub port: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Relay {
    pub fn start(server: u16) -> Relay {
        Relay::counting(server, |_| true)
    }

    /// Only the messages of either side of which that is true.
    pub fn counting(server: u16, counts: Counts) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port for the relay");
        let port = listener.local_addr().expect("its address").port();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let shared = plan.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server)) {
                        let _ = carry(client, server, shared, counts);
                    }
                });
            }
        });
        Relay { port, plan }
    }

    /// From now on messages are counted, and at number `at` harm is done, once.
    pub fn arm(&self, harm: Option<(u64, Harm)>) {
        *self.plan.lock().unwrap() = Plan {
            harm,
            ..Plan::default()
        };
    }

    /// How many messages went by since then, and whether the harm was done.
    pub fn disarm(&self) -> (u64, bool) {
        let plan = std::mem::take(&mut *self.plan.lock().unwrap());
        (plan.counted, plan.done)
    }
}

fn carry(mut client: TcpStream, mut server: TcpStream, plan: Arc<Mutex<Plan>>, counts: Counts) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // The startup packet or a cancel request has no type byte.
    let mut len = [0; 4];
    client.read_exact(&mut len)?;
    let mut packet = vec![0; u32::from_be_bytes(len) as usize - 4];
    client.read_exact(&mut packet)?;
    server.write_all(&len)?;
    server.write_all(&packet)?;
    let pid = Arc::new(Mutex::new(0));
    let up = {
        let (client, server, plan, pid) = (client.try_clone()?, server.try_clone()?, plan.clone(), pid.clone());
        std::thread::spawn(move || pass(client, server, (&plan, counts), &pid))
    };
    pass(server, client, (&plan, counts), &pid);
    let _ = up.join();
    Ok(())
}

/// Whole messages from one side to the other, until either ends.
fn pass(mut from: TcpStream, mut to: TcpStream, (plan, counts): (&Mutex<Plan>, Counts), pid: &Mutex<i32>) {
    let mut frame = Vec::new();
    while read_frame(&mut from, &mut frame).is_ok() {
        if frame[0] == b'K' && frame.len() >= 9 {
            *pid.lock().unwrap() = i32::from_be_bytes(frame[5..9].try_into().unwrap());
        }
        let mut plan = plan.lock().unwrap();
        let counted = counts(&frame);
        plan.counted += u64::from(counted);
        let now = plan.counted;
        let harm = plan.harm.filter(|(at, _)| counted && *at == now).map(|(_, harm)| harm);
        plan.done |= harm.is_some();
        if let Some(harm) = harm {
            // Under the lock, so that nothing else of this run passes meanwhile.
            let signal = |pid: i32, signal| {
                if pid > 0 {
                    unsafe { libc::kill(pid, signal) };
                }
            };
            let backend = *pid.lock().unwrap();
            match harm {
                Harm::Cut => break,
                Harm::KillProxy(proxy) => {
                    signal(proxy, libc::SIGKILL);
                    break;
                }
                Harm::Terminate => signal(backend, libc::SIGTERM),
                Harm::Cancel => signal(backend, libc::SIGINT),
                Harm::KillBackend => {
                    signal(backend, libc::SIGKILL);
                    break;
                }
            }
        }
        drop(plan);
        if to.write_all(&frame).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn read_frame(from: &mut TcpStream, frame: &mut Vec<u8>) -> std::io::Result<()> {
    frame.resize(5, 0);
    from.read_exact(frame)?;
    let len = u32::from_be_bytes([frame[1], frame[2], frame[3], frame[4]]) as usize + 1;
    frame.resize(len, 0);
    from.read_exact(&mut frame[5..])
}
