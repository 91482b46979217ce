//! The devices that an image requires.
use paravane_abi::device::{Device, DeviceKind};
use paravane_abi::manifest::Manifest;

/// What the operator calls a network device, on every host.
pub const NET_TAG: &str = "net";

/// The first kind of device of which the image requires more than there are.
#[must_use]
pub fn missing(manifest: &Manifest, devices: &[Device]) -> Option<DeviceKind> {
    let required = manifest.devices().iter().filter(|device| device.required == 1);
    [DeviceKind::Net, DeviceKind::Block].into_iter().find(|&kind| {
        let needed = required.clone().filter(|device| device.kind == kind as u32).count();
        let given = devices.iter().filter(|device| device.kind == kind as u32).count();
        given < needed
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use paravane_abi::manifest::ManifestDevice;

    #[test]
    fn only_what_is_required_can_be_missing() {
        let device = |kind: DeviceKind| Device { kind: kind as u32, ..Device::default() };
        let wish = |kind: DeviceKind, required| ManifestDevice { kind: kind as u32, required };
        let (net, block) = (DeviceKind::Net, DeviceKind::Block);
        let manifest = Manifest::new("test", 4 << 20, &[wish(net, 0), wish(block, 1)]);
        assert_eq!(missing(&manifest, &[]), Some(block));
        assert_eq!(missing(&manifest, &[device(net)]), Some(block));
        assert_eq!(missing(&manifest, &[device(block)]), None);
    }
}
