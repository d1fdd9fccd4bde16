// /volumes: storage that outlives instances. A handler writes the wish and a job; thecloud-cron makes the engine's volume.
// Tables: volumes (its status is computed there). To which instance a volume belongs is in Volumes+Attachments.swift.
import API
import HTTP
import Identity
import Postgres

enum Volumes {
    static let routes: [Route] = [
        .get("/volumes", .permission(.volumeRead), list),
        .create("/volumes", .permission(.volumeCreate), create),
        .get("/volumes/:id", .permission(.volumeRead), get),
        .delete("/volumes/:id", .permission(.volumeDelete), delete),
        .action("/volumes/:id/attach", .permission(.volumeUpdate), input: .json, attach),
        .action("/volumes/:id/detach", .permission(.volumeUpdate), input: .none, detach),
    ]

    static let columns: SQL =
        "id, name, size_gb, status, status_reason, instance_id, mount_path, used_bytes, measured_at, created_at, updated_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.member("size_gb", .int(row.next()))
        out.text("status", &row)
        out.text("status_reason", &row)
        out.id("instance_id", &row)
        out.text("mount_path", &row)
        out.member("used_bytes", .optional(row.next(Int?.self)))
        out.time("measured_at", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    static func json(_ row: Row) -> JSON { ["data": .written { write(row, to: &$0) }] }

    private struct Draft {
        let name: String
        let sizeGB: Int

        init(_ body: Fields) throws(APIError) {
            var body = body
            let name = body.required("name", .resourceName)
            let sizeGB = body.required("size_gb", .integer(1...16384))
            guard let name, let sizeGB, body.problems == nil else { throw body.refusal }
            self.name = name
            self.sizeGB = sizeGB
        }
    }

    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit("select \(columns) from volumes where \(page.window)")
        return .json(page.envelope(rows, write))
    }

    private static func create(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        let id = context.newID()
        let quota = context.config.quota
        try context.send("select check_volume_quota(\(quota.volumes), \(quota.volumeGB), \(draft.sizeGB))")
        let known: JSON = ["name": .string(draft.name), "size_gb": .int(draft.sizeGB)]
        try context.record("volume.created", id, known)
        try context.emit("volume.created", id, known.adding(["status": "CREATING"]))
        try context.enqueue("volume", id)
        let rows = try context.commit(
            "insert into volumes (id, name, size_gb) values (\(id), \(draft.name), \(draft.sizeGB)) returning \(columns)",
            refusals: ["volumes_name_taken": .alreadyExists("You have a volume of this name already")])
        return .created(json(rows[0]))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from volumes where id = \(try context.id())")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(json(row))
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        guard var row = try context.query("select instance_id from volumes where id = \(id) for no key update").first else {
            throw APIError.notFound
        }
        if let instance = row.next(ID?.self) { throw inUse(by: instance) }
        try context.send("update volumes set is_deleted = true, updated_at = now() where id = \(id)")
        try context.record("volume.deleted", id)
        try context.emit("volume.terminating", id, ["status": "TERMINATING"])
        try context.enqueue("volume", id)
        return .message("Volume is being deleted")
    }
}
