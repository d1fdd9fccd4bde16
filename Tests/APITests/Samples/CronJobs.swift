// See Samples.swift.
import HTTP
import TestSupport
import Testing

extension Sample {
    static let cronJobs = Sample(
        bodies: ["POST /cron": always(nightly), "PUT /cron/:id": always(nightly)],
        statuses: ["POST /cron": 201, "POST /cron/:id/run": 202],
        objects: [
            "/cron": { _, owner, cloud in
                let body: JSON = [
                    "name": .string("c" + TestCloud.newEmail().prefix(12)), "schedule": "@daily", "target_url": "http://my-service/cleanup",
                ]
                let answer = cloud.call(.post, "/cron", key: owner.key, json: body)
                return try #require(answer["data"]?["id"]?.string, "\(answer)")
            }
        ])

    private static let nightly: JSON = [
        "name": "nightly", "schedule": "0 3 * * 1-5", "timezone": "Europe/London", "target_url": "https://jobs.example/run",
        "method": "PUT", "headers": ["Authorization": "Bearer x"], "timeout": 10, "retries": 2, "overlap": "forbid", "missed": "run_once",
    ]
}
