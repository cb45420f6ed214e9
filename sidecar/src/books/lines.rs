//! Lines on their way out of the process, without waiting for whoever takes them.
//!
//! Guarantees: memory is bounded by the number of lines that may wait; writing happens on its own thread, so a slow reader holds up
//! nothing here; lines come out whole, in order, and none that had room is lost while the process lives, however often writing fails.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// Lines that may wait. More than there are connections, so that ordinary pauses of the reader go unnoticed.
pub const ROOM: usize = 4096;

/// How long lines are gathered before they are written. What comes meanwhile wakes nobody: to wake the writing thread for each line
/// would cost a call more than to judge it.
const GATHER: Duration = Duration::from_millis(5);

/// How long the thread waits after a write that failed. A full disk, or a reader that is gone, does not change sooner.
const RETRY: Duration = Duration::from_millis(200);

/// Bytes that a buffer keeps for the next lines; what a crowd needed more is given back.
const KEPT: usize = 64 * 1024;

/// The way out. Dropping it ends the thread, once what it has is written.
#[derive(Debug)]
pub struct Lines(Arc<Shared>);

/// Room for one line. Dropping it gives the room back.
#[derive(Debug)]
pub struct Slot(OwnedSemaphorePermit);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Told when there is something to write, or the end.
    filled: Condvar,
    room: Arc<Semaphore>,
    /// How many lines are written.
    written: watch::Sender<u64>,
    what: &'static str,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    lines: usize,
    /// How many lines there ever were.
    appended: u64,
    ended: bool,
}

impl Lines {
    /// Starts writing to `out`. `what` these lines are names the thread, and what it says if they cannot be written.
    pub fn start(what: &'static str, out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(ROOM)),
            written: watch::Sender::new(0),
            what,
        });
        let writing = Arc::clone(&shared);
        thread::Builder::new().name(what.to_owned()).spawn(move || writing.run(out))?;
        Ok(Self(shared))
    }

    /// Room for one line, if there is some now.
    #[must_use]
    pub fn room(&self) -> Option<Slot> {
        Arc::clone(&self.0.room).try_acquire_owned().ok().map(Slot)
    }

    /// Room for one line, if there is some within this time.
    pub async fn room_within(&self, patience: Duration) -> Option<Slot> {
        timeout(patience, Arc::clone(&self.0.room).acquire_owned()).await.ok()?.ok().map(Slot)
    }

    /// Appends one line, or a few that belong together, as `write` writes them: each with its end.
    pub fn append(&self, Slot(room): Slot, write: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = self.0.waiting();
        write(&mut waiting.bytes);
        waiting.appended += 1;
        waiting.lines += 1;
        room.forget();
        if waiting.lines == 1 {
            self.0.filled.notify_one();
        }
    }

    /// Waits until everything that was appended before is written.
    pub async fn flush(&self) {
        let appended = self.0.waiting().appended;
        // It cannot end before: the sender is ours.
        let _ = self.0.written.subscribe().wait_for(|written| *written >= appended).await;
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.0.waiting().ended = true;
        self.0.filled.notify_one();
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writing thread.
    fn run(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        while self.something_waits() {
            thread::sleep(GATHER);
            let lines = {
                let mut waiting = self.waiting();
                std::mem::swap(&mut waiting.bytes, &mut batch);
                std::mem::take(&mut waiting.lines)
            };
            self.write(&mut out, &batch);
            batch.clear();
            batch.shrink_to(KEPT);
            self.room.add_permits(lines);
            self.written.send_modify(|written| *written += lines as u64);
        }
    }

    /// Waits for something to write; false at the end.
    fn something_waits(&self) -> bool {
        let nothing = |waiting: &mut Waiting| waiting.lines == 0 && !waiting.ended;
        self.filled.wait_while(self.waiting(), nothing).unwrap_or_else(PoisonError::into_inner).lines > 0
    }

    /// Writes all of it, however often that fails: meanwhile there is no room for more, and that is noticed where room is asked for.
    fn write(&self, out: &mut impl Write, mut bytes: &[u8]) {
        let mut failing = false;
        while !bytes.is_empty() {
            match out.write(bytes) {
                Ok(written) if written > 0 => {
                    bytes = &bytes[written..];
                    if std::mem::take(&mut failing) {
                        tracing::info!(what = self.what, "lines are written again");
                    }
                    continue;
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                Err(cause) if !failing => tracing::error!(what = self.what, %cause, "lines cannot be written"),
                Ok(_) | Err(_) => {}
            }
            failing = true;
            if self.waiting().ended {
                return;
            }
            thread::sleep(RETRY);
        }
        // What has a buffer of its own writes at the end of a line.
        let _ = out.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, ErrorKind};

    use super::*;

    fn line(lines: &Lines, slot: Slot, number: usize) {
        lines.append(slot, |bytes| bytes.extend_from_slice(format!("{number}\n").as_bytes()));
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_takes_the_room_and_no_line() {
        let (reader, writer) = io::pipe().unwrap();
        let lines = Lines::start("test", writer).unwrap();
        let mut count = 0;
        // The pipe itself holds some.
        while let Some(slot) = lines.room_within(Duration::from_millis(100)).await {
            line(&lines, slot, count);
            count += 1;
        }
        assert!(count > ROOM && lines.room().is_none());
        let read = thread::spawn(move || BufReader::new(reader).lines().map(Result::unwrap).collect::<Vec<_>>());
        lines.flush().await;
        assert!(lines.room().is_some(), "what is read makes room");
        drop(lines);
        let expected: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        assert_eq!(read.join().unwrap(), expected);
    }

    /// Takes a few bytes of each second write.
    #[derive(Clone, Default)]
    struct Stammering(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Stammering {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (calls, written) = &mut *self.0.lock().unwrap();
            *calls += 1;
            if calls.is_multiple_of(2) {
                return Err(ErrorKind::StorageFull.into());
            }
            let some = bytes.len().min(9);
            written.extend_from_slice(&bytes[..some]);
            Ok(some)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_write_that_fails_is_tried_again_from_where_it_stopped() {
        let out = Stammering::default();
        let lines = Lines::start("test", out.clone()).unwrap();
        for number in 100..105 {
            line(&lines, lines.room().unwrap(), number);
        }
        lines.flush().await;
        assert_eq!(out.0.lock().unwrap().1, b"100\n101\n102\n103\n104\n");
    }

    #[test]
    fn room_that_is_not_used_is_given_back() {
        let lines = Lines::start("test", io::sink()).unwrap();
        let all: Vec<_> = std::iter::from_fn(|| lines.room()).collect();
        assert_eq!(all.len(), ROOM);
        drop(all);
        assert!(lines.room().is_some());
    }
}
