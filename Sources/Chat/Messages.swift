// /api/v1/messages: what is said in rooms. A user speaks and reads in rooms it has joined and changes only its own; the master key may all.
// Table: messages. Deleting empties a message and leaves its place in the history; by its id it is not found any more.
import API
import HTTP
import Identity
import Postgres

enum Messages {
    static let routes: [Route] = [
        .create("/api/v1/messages", .permission(.messageSend), send),
        .get("/api/v1/messages", .permission(.messageRead), history),
        .get("/api/v1/messages/:id", .permission(.messageRead), get),
        .put("/api/v1/messages/:id", .permission(.messageUpdate), edit),
        .delete("/api/v1/messages/:id", .permission(.messageDelete), delete),
    ]

    /// What comes from `source`; the user name is today's, null for the client itself and for users that are gone.
    private static let columns: SQL =
        """
        m.id, m.room_id, m.member_id, u.username, m.content, m.message_type, m.is_edited, m.is_deleted, m.created_at, m.updated_at
        """
    private static let source: SQL = "messages m left join members u on u.id = m.member_id"

    private static func write(_ row: Row, to out: inout JSONWriter) {
        var row = row
        out.id("id", &row)
        out.id("room_id", &row)
        out.id("user_id", &row)
        out.text("username", &row)
        out.text("content", &row)
        out.text("message_type", &row)
        out.member("is_edited", .bool(row.next(Bool.self)))
        out.member("is_deleted", .bool(row.next(Bool.self)))
        out.time("created_at", &row)
        out.time("updated_at", &row)
    }

    /// The same, for listeners.
    private static func event(_ id: ID) -> SQL {
        """
        select jsonb_build_object('id', m.id, 'room_id', m.room_id, 'user_id', m.member_id, 'username', u.username, 'content', m.content,
        'message_type', m.message_type, 'is_edited', m.is_edited, 'is_deleted', m.is_deleted, 'created_at', rfc3339(m.created_at),
        'updated_at', rfc3339(m.updated_at)) from \(source) where m.id = \(id)
        """
    }

    private struct Draft {
        let room: ID
        let content: String
        let type: String
        /// In whose name a client speaks; of no meaning where a user does.
        let member: ID?

        init(_ body: Fields) throws(APIError) {
            var body = body
            let room = body.required("room_id", .id)
            let content = body.required("content", .content)
            type = body.optional("message_type", .oneOf(["text", "image", "file", "system"])) ?? "text"
            member = body.optional("user_id", .id)
            guard let room, let content, body.problems == nil else { throw body.refusal }
            self.room = room
            self.content = content
        }
    }

    private static func send(_ context: Context) throws -> Response {
        let draft = try Draft(context.fields())
        if draft.type == "system", try context.principal.memberID != nil { throw APIError.insufficientPermissions }
        let id = context.newID()
        try context.send("select check_room(\(draft.room))")
        try context.send(
            """
            insert into messages (id, room_id, member_id, content, message_type)
            values (\(id), \(draft.room), coalesce(current_member(), \(draft.member)::uuid), \(draft.content), \(draft.type))
            """)
        try context.record("message.created", id)
        try context.emit("message.created", id, from: event(id))
        let unknownRoom = APIError.invalid("room_id", Rule<ID>.id.requirement)
        let rows = try context.commit(
            "select \(columns) from \(source) where m.id = \(id)",
            refusals: [
                "rooms_known": unknownRoom, "messages_room": unknownRoom,
                "messages_member": .invalid("user_id", Rule<ID>.id.requirement),
            ])
        return .created(.written { write(rows[0], to: &$0) })
    }

    private static func history(_ context: Context) throws -> Response {
        let window = try HistoryWindow(context.request.query)
        let older: SQL = window.after.map { "m.id < \($0)" } ?? "true"
        try context.send("select check_room(\(window.room))")
        let rows = try context.commit(
            """
            select \(columns) from \(source) where m.room_id = \(window.room) and \(older)
            order by m.id desc limit \(window.size + 1) offset \(window.offset)
            """)
        let count = min(rows.count, window.size)
        let next = rows.count > window.size ? "c_" + rows[count - 1].id.description : nil
        return .json(
            .written { out in
                out.member("data", objects: count) { write(rows[$0], to: &$1) }
                let meta: JSON = ["next_cursor": .optional(next), "page": .optional(window.page), "size": .int(window.size)]
                out.member("meta", meta)
            })
    }

    private static func get(_ context: Context) throws -> Response {
        let rows = try context.commit("select \(columns) from \(source) where m.id = \(try context.id()) and not m.is_deleted")
        guard let row = rows.first else { throw APIError.notFound }
        return .json(.written { write(row, to: &$0) })
    }

    private static func edit(_ context: Context) throws -> Response {
        var body = try context.fields()
        let content = body.required("content", .content)
        guard let content else { throw body.refusal }
        let id = try own(context)
        try context.send("update messages set content = \(content), is_edited = true, updated_at = now() where id = \(id)")
        try context.record("message.updated", id)
        try context.emit("message.updated", id, from: event(id))
        let rows = try context.commit("select \(columns) from \(source) where m.id = \(id)")
        return .json(.written { write(rows[0], to: &$0) })
    }

    private static func delete(_ context: Context) throws -> Response {
        let id = try own(context)
        try context.send("update messages set content = '', is_deleted = true, updated_at = now() where id = \(id)")
        try context.record("message.deleted", id)
        try context.emit("message.deleted", id, from: event(id))
        return .message("Message deleted")
    }

    /// Finds and locks the message of the path that the principal may change.
    /// - Throws: `notFound`, as for one in a room that was not joined; `insufficientPermissions` for somebody else's that can be seen.
    private static func own(_ context: Context) throws -> ID {
        let id = try context.id()
        let rows = try context.query(
            """
            select current_member() is null or member_id is not distinct from current_member() from messages
            where id = \(id) and not is_deleted for no key update
            """)
        guard let isOwn = rows.scalar(Bool.self) else { throw APIError.notFound }
        guard isOwn else { throw APIError.insufficientPermissions }
        return id
    }
}

/// Which part of a room's history: `limit` and `cursor`, or `page` and `size`, which count from the newest and reach 10000 messages back.
private struct HistoryWindow {
    let room: ID
    let size: Int
    let after: ID?
    /// `nil` where a cursor leads.
    let page: Int?
    let offset: Int

    init(_ query: Query) throws(APIError) {
        guard let room = query["room_id"] else { throw .invalid("room_id", "is required") }
        let keys = try Page(query)
        let isPaged = query["page"] != nil || query["size"] != nil
        if isPaged, query["cursor"] != nil { throw .invalid("cursor", "goes with limit, not with page and size") }
        let page = try query.number("page", default: 1, 1...10000)
        let size = isPaged ? try query.number("size", default: keys.limit, 1...100) : keys.limit
        guard page * size <= 10000 else { throw .invalid("page", "reaches 10000 messages back at most; go on with next_cursor as cursor") }
        // A room is an object: what names none is not found, like in a path.
        guard let room = ID(room) else { throw .notFound }
        self.room = room
        self.size = size
        after = keys.after
        self.page = keys.after == nil ? page : nil
        offset = (page - 1) * size
    }
}
