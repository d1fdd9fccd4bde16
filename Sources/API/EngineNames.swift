// How things on the engine are called and marked, so that every installation finds its own and leaves the others' alone.
package import Crypto
package import HTTP

package struct EngineNames: Sendable {
    /// The installation's id (table installation).
    package let stack: ID

    package init(stack: ID) { self.stack = stack }

    /// The name of the one object of a kind that stands for a row.
    package func name(_ kind: String, _ id: ID) -> String { "thecloud-\(stack.description.suffix(12))-\(kind)-\(id)" }

    package func instance(_ id: ID) -> String { name("instance", id) }
    package func volume(_ id: ID) -> String { name("volume", id) }
    package func network(_ id: ID) -> String { name("network", id) }

    /// Whether `volume` could have made the name.
    package func isVolume(_ name: String) -> Bool { name.hasPrefix("thecloud-\(stack.description.suffix(12))-volume-") }

    /// What all objects of this installation carry.
    package var labels: [String: String] { ["thecloud.stack": stack.description] }

    /// What all objects of one kind carry.
    package func labels(kind: String) -> [String: String] { labels.merging(["thecloud.kind": kind]) { first, _ in first } }

    /// What one object carries.
    package func labels(kind: String, id: ID, owner: ID) -> [String: String] {
        labels(kind: kind).merging(["thecloud.id": id.description, "thecloud.owner": owner.description]) { first, _ in first }
    }
}

extension Keyring {
    /// The environment of an instance, a group or a function as it is stored; `nil` for none.
    package func sealEnvironment(
        _ environment: [String: String], of id: ID, as column: SealedColumn = .instanceEnvironment
    ) -> [UInt8]? {
        guard !environment.isEmpty else { return nil }
        let members = environment.sorted { $0.key < $1.key }.map { JSON.Member($0.key, .string($0.value)) }
        return seal(JSON.object(members).bytes, column, of: id)
    }

    /// - Throws: `CryptoError` when it was not sealed for this row by this installation.
    package func openEnvironment(
        _ sealed: [UInt8]?, of id: ID, as column: SealedColumn = .instanceEnvironment
    ) throws -> [String: String] {
        guard let sealed else { return [:] }
        let json = try JSON(parsing: try open(sealed, column, of: id))
        guard case .object(let members) = json else { return [:] }
        return Dictionary(members.map { ($0.name, $0.value.string ?? "") }, uniquingKeysWith: { first, _ in first })
    }
}
