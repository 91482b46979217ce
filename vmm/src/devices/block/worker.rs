//! The thread that does what may have to wait for the medium.
use super::super::slices::GuestSlice;
use super::request::{Operation, Status};
use super::storage::Storage;
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A request for the worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) head: u16,
    pub(super) status: GuestSlice,
    pub(super) operation: Operation,
    /// Data of reads and writes.
    pub(super) slices: Vec<GuestSlice>,
    /// Bytes of data of a read.
    pub(super) read_len: u32,
    /// Flush after a write.
    pub(super) is_write_through: bool,
}

/// A job done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) job: Job,
    pub(super) result: Status,
}

/// The worker, seen from the device. Jobs are done one after the other, in order.
#[derive(Debug)]
pub(super) struct Worker {
    /// Taken only to end the thread.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    done: Arc<Mutex<Vec<Done>>>,
    wakeup: File,
    taken: Vec<Done>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(name: &str, storage: Arc<dyn Storage>) -> io::Result<Self> {
        let wakeup = event_descriptor()?;
        let (jobs, queue) = channel();
        let done = Arc::new(Mutex::new(Vec::new()));
        let results = Results { done: Arc::clone(&done), wakeup: wakeup.try_clone()? };
        let thread = thread::Builder::new()
            .name(format!("block-{name}"))
            .spawn(move || run(queue, &*storage, results))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), done, wakeup, taken: Vec::new() })
    }

    /// Hands a job over.
    /// False if the thread has ended.
    pub(super) fn submit(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// Jobs done since the last call.
    pub(super) fn take_done(&mut self) -> std::vec::Drain<'_, Done> {
        // Clear the wake-up first: a job done after this wakes again.
        if self.wakeup.read(&mut [0; 8]).is_ok() {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut self.taken, &mut *done);
        }
        self.taken.drain(..)
    }

    /// Readable when jobs are done.
    pub(super) fn wakeup(&self) -> RawFd {
        self.wakeup.as_raw_fd()
    }
}

impl Drop for Worker {
    /// Waits for the thread: it must not touch guest RAM after the device is gone.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has ended, too.
            let _ = thread.join();
        }
    }
}

struct Results {
    done: Arc<Mutex<Vec<Done>>>,
    wakeup: File,
}

fn run(queue: Receiver<Job>, storage: &dyn Storage, mut results: Results) {
    for mut job in queue {
        let result = match perform(&mut job, storage) {
            Ok(()) => Status::Ok,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Status::Unsupported,
            Err(_) => Status::IoError,
        };
        let mut done = results.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.push(Done { job, result });
        drop(done);
        // Fails only when the counter is full, and then the device is awake already.
        let _ = results.wakeup.write(&1_u64.to_le_bytes());
    }
}

fn perform(job: &mut Job, storage: &dyn Storage) -> io::Result<()> {
    match &job.operation {
        Operation::Read { offset } => storage.read(*offset, &mut job.slices),
        Operation::Write { offset } => {
            storage.write(*offset, &mut job.slices)?;
            if job.is_write_through { storage.flush() } else { Ok(()) }
        }
        Operation::Flush => storage.flush(),
        Operation::Discard(ranges) => {
            ranges.iter().try_for_each(|range| storage.discard(range.offset, range.len))
        }
        Operation::GetId => Ok(()),
    }
}

fn event_descriptor() -> io::Result<File> {
    // SAFETY: takes no pointers.
    let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
