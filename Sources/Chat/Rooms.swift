// /api/v1/rooms: a client's rooms. The master key sees and changes all; a user sees those it has joined, others are not found.
// Tables: rooms, participants. Joining and leaving are in Rooms+Participants.swift. Deleting takes messages along.
import API
import HTTP
import Identity
import Postgres

enum Rooms {
    static let routes: [Route] = [
        .create("/api/v1/rooms", .permission(.roomCreate), create),
        .get("/api/v1/rooms", .permission(.roomRead), list),
        .get("/api/v1/rooms/all", .permission(.roomReadAll), list),
        .get("/api/v1/rooms/:id", .permission(.roomRead), get),
        .put("/api/v1/rooms/:id", .permission(.roomUpdate), update),
        .delete("/api/v1/rooms/:id", .permission(.roomDelete), delete),
    ]

    private static let columns: SQL = "id, name, description, created_at, updated_at"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.text("name", &row)
        out.text("description", &row)
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    private static func event(_ id: ID) -> SQL {
        """
        select jsonb_build_object('id', id, 'room_id', id, 'name', name, 'description', description, 'created_at', rfc3339(created_at),
        'updated_at', rfc3339(updated_at)) from rooms where id = \(id)
        """
    }

    private static func create(_ context: Context) throws -> Response {
        var body = try context.fields()
        let name = body.required("name", .displayName)
        let description = body.optional("description", .description)
        guard let name, body.problems == nil else { throw body.refusal }
        let id = context.newID()
        try context.send("select check_chat_quota(null, \(context.config.quota.rooms), null)")
        try context.send("insert into rooms (id, name, description) values (\(id), \(name), \(description))")
        try context.record("room.created", id)
        try context.emit("room.created", id, from: event(id))
        let rows = try context.commit("select \(columns) from rooms where id = \(id)")
        return .created(.written { write(rows[0], to: &$0) })
    }

    /// One half answers a client and the other a user; each goes by its index and ends with the page.
    private static func list(_ context: Context) throws -> Response {
        let page = try Page(context.request.query)
        let rows = try context.commit(
            """
            (select \(columns) from rooms where current_member() is null and \(page.window))
            union all
            (select id, name, description, created_at, updated_at from (
                select p.room_id as id, r.name, r.description, r.created_at, r.updated_at from participants p join rooms r on r.id = p.room_id
                where p.member_id = current_member()) seats where \(page.window))
            """)
        return .json(page.envelope(rows, write))
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit(
            "select \(columns) from rooms where id = \(try context.id()) and (current_member() is null or joined(id))")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(.written { write(row, to: &$0) })
    }

    private static func update(_ context: Context) throws -> Response {
        var body = try context.fields()
        let name = body.optional("name", .displayName)
        let description = body.optional("description", .description)
        if !body.has("name"), !body.has("description") { body.report("name", "or description is required") }
        if let problems = body.problems { throw problems }
        let id = try context.id()
        let rows = try context.query(
            """
            update rooms set name = coalesce(\(name), name), description = coalesce(\(description), description), updated_at = now()
            where id = \(id) returning \(columns)
            """)
        guard let row = rows.first else { throw APIError.notFound }
        try context.record("room.updated", id)
        try context.emit("room.updated", id, from: event(id))
        return .json(.written { write(row, to: &$0) })
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try context.id()
        try context.emit("room.deleted", id, from: event(id))
        try context.takeTime()
        guard try context.query("delete from rooms where id = \(id)").affected == 1 else { throw APIError.notFound }
        try context.record("room.deleted", id)
        return .message("Room deleted")
    }
}
