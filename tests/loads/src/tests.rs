use crate::{LOADS, Load, Machine, STORE_LEN, run};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// A machine that counts, whose every byte is the number of its sector.
#[derive(Default)]
struct Counting {
    calls: Cell<u64>,
    bytes: Cell<u64>,
    requests: RefCell<Vec<&'static str>>,
}

impl Counting {
    fn note(&self, what: &'static str, offset: u64, len: usize) {
        assert!(offset.is_multiple_of(512) && len.is_multiple_of(512));
        assert!(offset + len as u64 <= STORE_LEN);
        self.bytes.set(self.bytes.get() + len as u64);
        self.requests.borrow_mut().push(what);
    }
}

impl Machine for Counting {
    async fn read(&self, offset: u64, data: &mut [u8]) -> io::Result<()> {
        self.note("read", offset, data.len());
        data.fill((offset / 512).to_le_bytes()[0]);
        Ok(())
    }

    async fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note("write", offset, data.len());
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        self.note("flush", 0, 0);
        Ok(())
    }

    fn call(&self) {
        self.calls.set(self.calls.get() + 1);
    }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

#[test]
fn loads_do_as_much_as_they_say() {
    for load in LOADS {
        let machine = Counting::default();
        let sum = ready(load.pass(&machine)).unwrap();
        assert_eq!(sum, ready(load.pass(&Counting::default())).unwrap(), "{load:?}");
        let requests = machine.requests.borrow();
        let count = requests.iter().filter(|&&request| request != "flush").count() as u64;
        match load {
            Load::Call => assert_eq!((machine.calls.get(), count), (load.size(), 0)),
            _ if load.is_sequential() => assert_eq!(machine.bytes.get(), load.size()),
            _ => assert_eq!(count, load.size(), "{load:?}"),
        }
        let flushes = requests.iter().filter(|&&request| request == "flush").count() as u64;
        match load {
            Load::Commit => assert_eq!(flushes, load.size()),
            _ => assert_eq!(flushes, u64::from(load == Load::SequentialWrite), "{load:?}"),
        }
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let arguments = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter();
    let machine = Counting::default();
    for line in ["", "read-4k", "read-4k x", "walk 3"] {
        let error = ready(run(&machine, arguments(line))).unwrap_err();
        assert!(error.to_string().contains("read-4k-x16"), "{line}");
    }
    assert!(ready(run(&machine, arguments("call 1"))).is_ok());
}
