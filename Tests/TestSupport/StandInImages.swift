// Images of managed services for tests: pulled, or made by scripts/images where no registry can be reached.
import Docker
import Foundation

package enum StandInImages {
    /// - Throws: `Unexpected` when they are not there afterwards.
    package static func prepare(_ images: [String]) throws {
        guard let engine = Engine() else { return }
        let missing = try images.filter { try ImageReference($0).map { try !engine.imageExists($0) } ?? true }
        guard !missing.isEmpty else { return }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: repository + "/scripts/images")
        process.arguments = ["--if-missing"] + missing
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Unexpected(description: "scripts/images can't make \(missing)") }
    }
}
