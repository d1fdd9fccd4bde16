// The container that stands for a row of an owner: its name, its labels, and the steps of its life, each of which may be repeated,
// because the process may have died, or the engine, in the middle of it.
import API
import Docker
import HTTP

/// What was wished can't be had, and trying again would not help; the reason is for the owner.
struct Unattainable: Error { let reason: String }

struct ResourceContainer {
    let bench: Workbench
    /// Of the resource: the label `thecloud.kind`.
    let kind: String
    /// Of its row.
    let id: ID

    var name: String { bench.names.name(kind, id) }

    enum Start {
        case started
        /// The container was taken away and has to be made anew.
        case undone
        /// Somebody else holds a host port; in the engine's words. The container waits for it, unless it has run before: then it is taken away.
        case portTaken(String)
    }

    func labels(owner: ID) -> [String: String] { bench.names.labels(kind: kind, id: id, owner: owner) }

    /// `nil`: there is none.
    func inspect() throws(EngineError) -> Container? {
        do {
            return try bench.engine.inspect(name)
        } catch .notFound {
            return nil
        }
    }

    /// Fetches the image and makes the container, unless it is there.
    /// - Throws: `Unattainable` for an image that can't be had, and for what the engine refuses.
    func create(_ spec: ContainerSpec) throws {
        try fetch(spec.image)
        do {
            _ = try bench.engine.createContainer(spec)
        } catch {
            switch error {
            case .conflict: return  // Made by an earlier attempt.
            case .other(400, let message): throw Unattainable(reason: "The container can't be made: \(message)")
            default: throw error
            }
        }
    }

    /// - Throws: `Unattainable` when it can't be pulled.
    private func fetch(_ image: ImageReference) throws {
        guard try !bench.engine.imageExists(image) else { return }
        do {
            try bench.engine.pull(image, timeout: 240_000)
        } catch EngineError.unreachable(let why) {
            throw EngineError.unreachable(why)
        } catch {
            throw Unattainable(reason: "The image \(image) can't be pulled: \(error)")
        }
    }

    /// - Throws: `Unattainable` when its command can't be run.
    func start() throws -> Start {
        do {
            try bench.engine.start(name)
            return .started
        } catch {
            switch error {
            case .notModified: return .started
            case .halfStarted, .notFound:
                // Not found is its network, when somebody has removed that; a container keeps to the network that it was made with.
                try remove()
                return .undone
            case .portTaken(let message):
                // One that never ran is tried again by the next sweep. Taken away, it would be heard of, and tried again at once and for ever.
                if try inspect()?.state != .created { try remove() }
                return .portTaken(message)
            case .other(400, let message), .other(500, let message):
                throw Unattainable(reason: "The container can't be started: \(message)")
            default: throw error
            }
        }
    }

    /// Gives a container that does not run another address in its network; it keeps what it wrote.
    func move(to attachment: ContainerSpec.Attachment) throws {
        try Self.tolerating { try bench.engine.disconnect(name, from: attachment.network) }
        try Self.tolerating { try bench.engine.connect(name, to: attachment) }
    }

    /// - Parameter seconds: between asking and killing.
    func stop(_ state: ContainerState, seconds: Int) throws {
        if state == .paused { try unpause() }
        try Self.tolerating { try bench.engine.stop(name, timeout: seconds) }
    }

    func pause() throws { try Self.tolerating { try bench.engine.pause(name) } }

    func unpause() throws { try Self.tolerating { try bench.engine.unpause(name) } }

    func remove() throws { try Self.tolerating { try bench.engine.remove(name, force: true) } }

    /// Removes whatever of this installation carries the id, under any name.
    func removeOrphans() throws {
        let labels = bench.names.labels(kind: kind).merging(["thecloud.id": id.description]) { first, _ in first }
        for orphan in try bench.engine.containers(labels: labels) {
            try Self.tolerating { try bench.engine.remove(orphan.id, force: true) }
        }
    }

    /// Docker says "not modified", "not found" or "conflict" where the step was made already, or is overtaken; the next look tells.
    static func tolerating(_ step: () throws -> Void) throws {
        do {
            try step()
        } catch EngineError.notModified, EngineError.notFound, EngineError.conflict {
            return
        }
    }
}
