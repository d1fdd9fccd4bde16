// The images that managed services and functions run; each is a setting, and the official one by default.
package import Docker

/// What we run on behalf of users without their naming an image.
package enum ManagedImage: String, CaseIterable, Sendable {
    case redis, haproxy, nodejs20, python312

    /// The setting that names another one.
    package var setting: String { "THECLOUD_IMAGE_\(rawValue.uppercased())" }

    var official: ImageReference {
        let reference =
            switch self {
            case .redis: "redis:7-alpine"
            case .haproxy: "haproxy:2.8-alpine"
            case .nodejs20: "node:20-alpine"
            case .python312: "python:3.12-alpine"
            }
        guard let reference = ImageReference(reference) else { preconditionFailure("\(self) has an official image") }
        return reference
    }
}

package struct ManagedImages: Sendable {
    private let chosen: [ManagedImage: ImageReference]

    /// - Parameter choose: is asked once for each.
    init(_ choose: (ManagedImage) -> ImageReference) {
        chosen = Dictionary(uniqueKeysWithValues: ManagedImage.allCases.map { ($0, choose($0)) })
    }

    package subscript(image: ManagedImage) -> ImageReference { chosen[image] ?? image.official }
}
