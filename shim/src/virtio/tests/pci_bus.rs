//! Buses, capabilities and base address registers as machines have them, and as they should not.
use super::model::{Core, Function, Machine, Structure};
use crate::virtio::pci::functions;
use std::string::ToString;
use std::vec::Vec;

const MEMORY: u64 = 0xfe00_0000;

fn places(machine: &Machine) -> Vec<String> {
    let found = machine.discover().unwrap();
    found.iter().map(|device| device.place().to_string()).collect()
}

fn virtio(index: u64) -> Function {
    Function::virtio(Core::block(), MEMORY + index * 0x8000)
}

#[test]
fn devices_behind_bridges_are_found() {
    let mut machine = Machine::default();
    machine.bus.add((0, 1, 0), Function::bridge(2));
    machine.bus.add((0, 2, 0), Function::bridge(1));
    machine.bus.add((2, 0, 0), virtio(0));
    machine.bus.add((2, 31, 0), Function::bridge(0xff));
    machine.bus.add((0xff, 31, 0), virtio(1));
    machine.bus.add((1, 0, 0), virtio(2));
    machine.bus.add((3, 0, 0), virtio(3));
    let expect = ["virtio-pci 02:00.0", "virtio-pci 01:00.0", "virtio-pci ff:1f.0"];
    assert_eq!(places(&machine), expect);
}

#[test]
fn bridges_in_a_circle_are_visited_once() {
    let mut machine = Machine::default();
    machine.bus.add((0, 1, 0), Function::bridge(1));
    machine.bus.add((1, 1, 0), Function::bridge(2));
    machine.bus.add((2, 1, 0), Function::bridge(1));
    machine.bus.add((2, 2, 0), Function::bridge(0));
    machine.bus.add((2, 3, 0), virtio(0));
    assert_eq!(places(&machine), ["virtio-pci 02:03.0"]);
}

#[test]
fn functions_count_if_the_device_has_several() {
    let mut machine = Machine::default();
    machine.bus.add((0, 1, 0), virtio(0).multifunction());
    machine.bus.add((0, 1, 7), virtio(1));
    machine.bus.add((0, 2, 0), virtio(2));
    machine.bus.add((0, 2, 1), virtio(3));
    let expect = ["virtio-pci 00:01.0", "virtio-pci 00:01.7", "virtio-pci 00:02.0"];
    assert_eq!(places(&machine), expect);
}

#[test]
fn functions_are_all_that_is_there_but_bridges() {
    let mut machine = Machine::default();
    machine.bus.add((0, 0, 0), Function::plain(0x8086, 0x29c0));
    machine.bus.add((0, 1, 0), Function::bridge(7).multifunction());
    machine.bus.add((0, 1, 2), Function::bridge(8));
    machine.bus.add((7, 3, 0), Function::plain(0x1af4, 0xffff).multifunction());
    machine.bus.add((7, 3, 5), Function::plain(0x1234, 1));
    machine.bus.add((8, 31, 0), virtio(0));
    let found = functions(&mut machine.bus);
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["00:00.0", "07:03.0", "07:03.5", "08:1f.0"]);
}

/// What is found of a device whose capabilities and memory were made by `change`.
fn found(change: impl FnOnce(&mut Function)) -> Result<usize, String> {
    let mut function = Function::virtio_bare(Core::block());
    change(&mut function);
    let mut machine = Machine::default();
    machine.bus.add((0, 1, 0), function);
    machine.discover().map(|found| found.len()).map_err(|error| error.to_string())
}

fn add_all(function: &mut Function, bar: u8) {
    function.add(Structure::Common, bar, 0, 56);
    function.add(Structure::Notify, bar, 0x3000, 2);
    function.add(Structure::Device, bar, 0x2000, 60);
    function.add_messages(bar, 0x1000);
}

#[test]
fn memory_may_be_anywhere_and_of_either_size() {
    for (bar, memory, len) in [
        (0, 0x80_0000_0000, 0x4000),
        (2, 0xffff_ffff_0000_0000, 0x10000),
        (4, MEMORY, 0x4000),
        (4, 0x80_0000_0000, 0x2_0000_0000),
    ] {
        let change = |function: &mut Function| {
            function.add_bar(bar, memory, len);
            add_all(function, bar);
        };
        assert_eq!(found(change), Ok(1), "at {memory:#x}");
    }
    let change = |function: &mut Function| {
        function.add_bar(5, 0xf000_0000, 0x4000);
        add_all(function, 5);
    };
    assert_eq!(found(change), Ok(1));
}

#[test]
fn memory_that_wraps_around_is_refused() {
    let change = |function: &mut Function| {
        function.add_bar(0, 0xffff_ffff_ffff_c000, 0x4000);
        add_all(function, 0);
    };
    let refusal = "virtio-pci 00:01.0 has common registers that do not lie in their memory";
    assert_eq!(found(change), Err(refusal.into()));
}

#[test]
fn of_several_structures_the_first_usable_counts() {
    let change = |function: &mut Function| {
        function.add_io_bar(1);
        function.add_bar(4, MEMORY, 0x4000);
        function.add(Structure::Common, 1, 0, 56);
        function.add(Structure::Notify, 6, 0x3000, 4);
        function.add(Structure::Notify, 255, 0x3000, 4);
        add_all(function, 4);
        function.add(Structure::Common, 4, 0x4000, 0);
    };
    assert_eq!(found(change), Ok(1));
    let io_only = |function: &mut Function| {
        function.add_io_bar(1);
        add_all(function, 1);
    };
    assert!(found(io_only).unwrap_err().contains("offers only the legacy interface"));
}

#[test]
fn half_a_64_bit_register_is_no_memory() {
    let change = |function: &mut Function| {
        function.add_bar(5, MEMORY, 0x4000);
        function.set_byte(0x24, 0b100);
        add_all(function, 5);
    };
    assert!(found(change).unwrap_err().contains("offers only the legacy interface"));
}

#[test]
fn capabilities_that_loop_end() {
    let behind = |function: &mut Function| {
        function.add_bar(4, MEMORY, 0x4000);
        add_all(function, 4);
        let last = function.add_capability(&[9]);
        function.set_byte(last + 1, 0x40);
    };
    assert_eq!(found(behind), Ok(1));
    let before = |function: &mut Function| {
        function.add_bar(4, MEMORY, 0x4000);
        let first = function.add_capability(&[5]);
        add_all(function, 4);
        function.set_byte(first + 1, first);
    };
    assert!(found(before).unwrap_err().contains("offers only the legacy interface"));
}

#[test]
fn a_list_that_leads_into_the_header_or_is_not_there_is_empty() {
    let complete = |change: fn(&mut Function)| {
        found(|function| {
            function.add_bar(4, MEMORY, 0x4000);
            add_all(function, 4);
            change(function);
        })
    };
    assert_eq!(complete(|_| ()), Ok(1));
    for change in [
        (|function| function.set_byte(0x34, 0x3c)) as fn(&mut Function),
        |function| function.set_byte(0x34, 0),
        |function| function.set_byte(6, 0xef),
        |function| function.set_byte(0x41, 0),
    ] {
        let refusal = complete(change).unwrap_err();
        assert!(refusal.contains("offers only the legacy interface"), "{refusal}");
    }
}

#[test]
fn a_capability_that_leaves_the_space_is_not_taken() {
    let change = |function: &mut Function| {
        function.add_bar(4, MEMORY, 0x4000);
        let first = function.add_capability(&[5]);
        add_all(function, 4);
        // Two at the end of the space: one of virtio, without its fields, and MSI-X, without its table.
        function.set_byte(first + 1, 0xf8);
        function.set_byte(0xf8, 9);
        function.set_byte(0xf9, 0xfc);
        function.set_byte(0xfb, 1);
        function.set_byte(0xfc, 0x11);
        function.set_byte(0xfd, first + 20);
    };
    assert!(found(change).unwrap_err().contains("has no MSI-X interrupts"));
}
