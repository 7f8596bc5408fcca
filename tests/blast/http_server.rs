//! An HTTP server of the tests: it answers what a test says, and ends connections as it says.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::common::{TIMEOUT, any_port, reset};

/// What the server does after a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Reads the next request.
    Continue,
    /// Sends its FIN, and reads until the client closes.
    Finish,
    /// Resets the connection.
    Reset,
}

/// An HTTP server in threads, one for each connection: `answer` is called with the number of the
/// connection, the number of the request on it, and its head. It returns the bytes of the response.
pub(crate) struct HttpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    pub(crate) fn start(
        answer: impl Fn(usize, usize, &str) -> (Vec<u8>, Then) + Send + Sync + 'static,
    ) -> HttpServer {
        let listener = TcpListener::bind(any_port()).unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (answer, stop_requested) = (Arc::new(answer), stop.clone());
        let thread = thread::spawn(move || {
            let mut connections = Vec::new();
            for (number, stream) in listener.incoming().enumerate() {
                if stop_requested.load(Ordering::Relaxed) {
                    break;
                }
                let answer = answer.clone();
                connections.push(thread::spawn(move || serve(&stream.unwrap(), number, &*answer)));
            }
            drop(listener);
            connections.into_iter().for_each(|connection| connection.join().unwrap());
        });
        HttpServer { address, stop, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/a?b", self.address)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // which ends the accept
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Answers the requests on one connection.
pub(crate) fn serve(
    stream: &TcpStream,
    number: usize,
    answer: &impl Fn(usize, usize, &str) -> (Vec<u8>, Then),
) {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut requests = BufReader::new(stream.try_clone().unwrap());
    for request in 0.. {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            // A reset of the client ends it, as its close does.
            if !matches!(requests.read_line(&mut head), Ok(1..)) {
                return;
            }
        }
        let (response, then) = answer(number, request, &head);
        if (&*stream).write_all(&response).is_err() {
            return;
        }
        match then {
            Then::Continue => {}
            Then::Finish => {
                let _ = stream.shutdown(Shutdown::Write);
                let _ = std::io::copy(&mut requests, &mut std::io::sink());
                return;
            }
            Then::Reset => {
                drop(requests);
                return reset(stream.try_clone().unwrap());
            }
        }
    }
}

/// Returns a response with this body.
pub(crate) fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
