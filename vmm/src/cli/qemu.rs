//! The QEMU command line that starts a bundle.
use paravane_abi::device::DeviceKind;
use paravane_abi::manifest::Manifest;
use paravane_host::bundle::{Bundle, Ipv4};
use std::net::Ipv4Addr;
use std::path::Path;

/// The command line for `site.elf`, a bundle of the web appliance with a site.
macro_rules! example {
    () => {
        "\
qemu-system-x86_64 -M microvm,acpi=off -cpu max -m 256 -nodefaults -no-reboot \\
    -display none -serial mon:stdio -device isa-debug-exit,iobase=0xf4,iosize=4 \\
    -global virtio-mmio.force-legacy=false -kernel site.elf \\
    -drive file=site.elf,format=raw,readonly=on,if=none,id=site -device virtio-blk-device,drive=site \\
    -netdev user,id=net,hostfwd=tcp:127.0.0.1:8080-:80 -device virtio-net-device,netdev=net"
    };
}
pub(super) use example;

/// RAM for the shim, its tables and whatever the machine keeps, beside what a guest needs.
const SLACK: u64 = 32 << 20;

/// The command line for the bundle at `path`, ready to be pasted into a shell.
pub(super) fn command(path: &Path, bundle: &Bundle<'_>, manifest: &Manifest) -> String {
    let path = path.display().to_string();
    let mut command = format!(
        "qemu-system-x86_64 -M microvm,acpi=off -cpu max -m {} -nodefaults -no-reboot \\
    -display none -serial mon:stdio -device isa-debug-exit,iobase=0xf4,iosize=4 \\
    -global virtio-mmio.force-legacy=false -kernel {}",
        memory_mib(bundle, manifest),
        quoted(&path),
    );
    if bundle.is_own_disk {
        command += &drive(&path, "site", "readonly=on,");
    }
    let given = usize::from(bundle.is_own_disk);
    for tag in super::disks::tags().take(required_disks(manifest).saturating_sub(given)) {
        command += &drive(&format!("{tag}.img"), &tag, "");
    }
    if manifest.devices().iter().any(|device| device.kind == DeviceKind::Net as u32) {
        let network = network(bundle.ipv4, bundle.is_own_disk);
        command += &format!(" \\\n    -netdev {network} -device virtio-net-device,netdev=net");
    }
    command
}

fn required_disks(manifest: &Manifest) -> usize {
    let is_disk = |d: &&_| {
        let paravane_abi::manifest::ManifestDevice { kind, required } = **d;
        kind == DeviceKind::Block as u32 && required == 1
    };
    manifest.devices().iter().filter(is_disk).count()
}

fn drive(path: &str, id: &str, flags: &str) -> String {
    // In an option's value, a comma is written twice.
    let file = quoted(&path.replace(',', ",,"));
    format!(
        " \\\n    -drive file={file},format=raw,{flags}if=none,id={id} \
         -device virtio-blk-device,drive={id}"
    )
}

/// A user-mode network that has the guest's addresses, and leads to a site's port.
fn network(ipv4: Ipv4, has_site: bool) -> String {
    let is_static = ipv4 != Ipv4::default();
    let [address, gateway] = [ipv4.address, ipv4.gateway].map(Ipv4Addr::from);
    let mut network = "user,id=net".to_owned();
    if is_static {
        network += &format!(",net={address}/{}", ipv4.prefix_len);
    }
    if !gateway.is_unspecified() {
        network += &format!(",host={gateway}");
    }
    if has_site {
        let guest = if is_static { address.to_string() } else { String::new() };
        network += &format!(",hostfwd=tcp:127.0.0.1:8080-{guest}:80");
    }
    network
}

/// Memory of the machine: what the guest asks for, and twice what is loaded, as the shim copies it.
fn memory_mib(bundle: &Bundle<'_>, manifest: &Manifest) -> u64 {
    let loaded = (bundle.image.len() + bundle.config.len()) as u64;
    let needed = manifest.ram_size_min + manifest.stacks_len() + 2 * loaded + SLACK;
    needed.next_multiple_of(256 << 20) >> 20
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./,+:@%=".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paravane_abi::device::Ipv6Config;
    use paravane_abi::manifest::ManifestDevice;

    fn required(kind: DeviceKind) -> ManifestDevice {
        ManifestDevice { kind: kind as u32, required: 1 }
    }

    fn bundle(is_own_disk: bool) -> Bundle<'static> {
        Bundle {
            image: b"",
            config: b"",
            arguments: Vec::new(),
            disks: Vec::new(),
            is_own_disk,
            file_len: 0,
            ipv4: Ipv4::default(),
            ipv6: Ipv6Config::default(),
            watchdog_seconds: 10,
        }
    }

    fn web() -> Manifest {
        Manifest::new("web", 8 << 20, &[required(DeviceKind::Net), required(DeviceKind::Block)])
    }

    #[test]
    fn the_example_is_what_a_site_gets() {
        assert_eq!(command(Path::new("site.elf"), &bundle(true), &web()), example!());
    }

    #[test]
    fn disks_that_the_operator_has_to_give_have_a_place() {
        let text = command(Path::new("b.elf"), &bundle(false), &web());
        let disk = "-drive file=disk-a.img,format=raw,if=none,id=disk-a ";
        assert!(text.contains(disk) && !text.contains("b.elf,format"), "{text}");
        assert!(!text.contains("hostfwd"), "{text}");
        let bare = Manifest::new("bare", 8 << 20, &[]);
        let text = command(Path::new("b.elf"), &bundle(false), &bare);
        assert!(!text.contains("-drive") && !text.contains("-netdev"), "{text}");
    }

    #[test]
    fn a_static_address_is_the_networks() {
        let ipv4 = Ipv4::new([192, 168, 7, 9], 24, [192, 168, 7, 1], [0; 4]);
        let expect = "user,id=net,net=192.168.7.9/24,host=192.168.7.1,\
                      hostfwd=tcp:127.0.0.1:8080-192.168.7.9:80";
        assert_eq!(network(ipv4, true), expect);
    }

    #[test]
    fn memory_suffices() {
        let large = Manifest::new("large", 256 << 20, &[]);
        assert_eq!(memory_mib(&bundle(false), &large), 512);
        assert_eq!(memory_mib(&bundle(false), &web()), 256);
    }

    #[test]
    fn odd_names_are_quoted() {
        let text = command(Path::new("my site,1's.elf"), &bundle(true), &web());
        assert!(text.contains(r"-kernel 'my site,1'\''s.elf'"), "{text}");
        assert!(text.contains(r"-drive file='my site,,1'\''s.elf',format=raw"), "{text}");
    }
}
