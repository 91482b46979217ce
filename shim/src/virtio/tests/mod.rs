//! The devices against models of the machine's that hold their driver to the specification, that
//! misbehave on request, or that answer anything.
mod attach;
mod discovery;
mod entry;
mod hostile;
mod model;
mod pci_bus;
