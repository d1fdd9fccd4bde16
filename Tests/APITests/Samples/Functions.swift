// See Samples.swift.
import Crypto
import HTTP
import Postgres
import TestSupport
import Testing

extension Sample {
    static let functions = Sample(
        bodies: [
            "POST /functions": always(whole), "PUT /functions/:id": always(whole),
            // A payload may be any JSON.
            "POST /functions/:id/invoke": always(["async": false]),
        ],
        // The engine of these tests never answers, but only an invocation asks it.
        statuses: ["POST /functions": 201, "PUT /functions/:id": 200],
        objects: [
            "/functions": { _, owner, cloud in
                let body: JSON = [
                    "name": .string("f" + TestCloud.newEmail().prefix(12)), "runtime": "nodejs20", "code_zip": .string(zip),
                ]
                let answer = cloud.call(.post, "/functions", key: owner.key, json: body)
                let id = try #require(answer["data"]?["id"]?.string, "\(answer)")
                // A path with two ids gets the same one for both: an invocation may be called like its function.
                try cloud.admin(
                    """
                    insert into invocations (id, owner_id, function_id, is_async, status, finished_at)
                    values (\(id)::uuid, \(owner.id)::uuid, \(id)::uuid, true, 'FAILED', now())
                    """)
                return id
            }
        ])

    private static let zip = Base64.standard.padded(ZipMaker(["index.js": "exports.handler = () => 1;"]).bytes)

    private static let whole: JSON = [
        "name": "hello-world", "runtime": "nodejs20", "code_zip": .string(zip), "handler": "index.handler", "timeout": 10, "memory_mb": 128,
        "env": ["PLACE": "here"],
    ]
}
