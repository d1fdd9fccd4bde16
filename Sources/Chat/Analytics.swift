// /api/v1/analytics: how much a client has of what, counted when asked, in one statement. Each count goes over the client's own rows only.
// Tables: members, rooms, participants, messages, notifications, api_keys.
import API
import HTTP
import Identity
import Postgres

enum Analytics {
    static let routes: [Route] = [.get("/api/v1/analytics", .permission(.analyticsRead), count)]

    /// `messages.total` has deleted ones in it; `by_type` and `notifications` name what there is none of, too.
    private static func count(_ context: Context) throws -> Response {
        let rows = try context.commit(
            """
            select json_build_object(
                'users', (select json_build_object('total', count(*), 'active', count(*) filter (where is_active)) from members),
                'rooms', (select count(*) from rooms),
                'participants', (select count(*) from participants),
                'messages', (select json_build_object('total', count(*), 'deleted', count(*) filter (where is_deleted),
                    'last_24h', count(*) filter (where created_at > now() - interval '24 hours'),
                    'by_type', json_build_object('text', count(*) filter (where message_type = 'text'),
                        'image', count(*) filter (where message_type = 'image'), 'file', count(*) filter (where message_type = 'file'),
                        'system', count(*) filter (where message_type = 'system'))) from messages),
                'notifications', (select json_build_object('pending', count(*) filter (where status = 'pending'),
                    'sent', count(*) filter (where status = 'sent'), 'failed', count(*) filter (where status = 'failed')) from notifications),
                'keys', (select json_build_object('master', count(*) filter (where kind = 'master'),
                    'scoped', count(*) filter (where kind = 'scoped')) from api_keys where expires_at is null or expires_at > now())
            )::text
            """)
        guard let text = rows.scalar(String.self) else { throw APIError.internalFailure(cause: "no counts") }
        return .json(.text(Array(text.utf8)))
    }
}
