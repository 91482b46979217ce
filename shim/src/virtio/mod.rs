//! virtio devices of the machine: discovery, and handing the guest's rings to them.
