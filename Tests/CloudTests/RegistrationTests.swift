// POST /auth/register: the bodies of both documents, what makes an account, and what never does.
import HTTP
import Postgres
import TestSupport
import Testing

struct RegistrationTests {
    let cloud: TestCloud

    init() throws { cloud = try TestCloud() }

    /// "API Reference" shows message and user_id at the top, "Authentication Guide" the user below data.
    @Test func bothDocumentedBodies() {
        let email = TestCloud.newEmail()
        let answer = cloud.call(
            .post, "/auth/register",
            text: """
                {
                  "email": "\(email)",
                  "password": "password",
                  "name": "User Name"
                }
                """)
        expect(
            answer, 201,
            """
            {"message": "user created successfully", "user_id": "$id",
             "data": {"id": "$id", "email": "\(email)", "name": "User Name", "role": "user", "created_at": "$time"}}
            """)
        #expect(answer["user_id"] == answer["data"]?["id"])
        #expect(answer.header("Content-Type") == "application/json; charset=utf-8")
    }

    @Test func anAddressIsTakenInAnyCase() throws {
        let owner = try cloud.newOwner()
        let answer = cloud.call(
            .post, "/auth/register", json: ["email": .string(owner.email.uppercased()), "password": "another password", "name": "Other"])
        expect(answer, 409, error: "conflict", "ALREADY_EXISTS", "An account with this e-mail address exists already")
    }

    @Test func everyBadFieldIsNamedAtOnce() {
        let answer = cloud.call(.post, "/auth/register", json: ["email": "no address", "password": "short", "name": " "])
        expect(
            answer, 400, error: "bad_request", "VALIDATION_FAILED",
            "email must be an e-mail address; password must be 8–1024 bytes long; name must be 1–100 printable characters",
            fields: [
                "email": "must be an e-mail address", "password": "must be 8–1024 bytes long", "name": "must be 1–100 printable characters",
            ])
        let empty = cloud.call(.post, "/auth/register", json: ["name": nil])
        #expect(empty.status == 400 && empty.badFields == ["email", "password", "name"], "\(empty)")
    }

    @Test(arguments: [7: 400, 8: 201, 1024: 201, 1025: 400])
    func lengthIsTheOnlyRuleForPasswords(length: Int, status: Int) {
        let body: JSON = [
            "email": .string(TestCloud.newEmail()), "password": .string(String(repeating: "a", count: length)), "name": "Someone",
        ]
        #expect(cloud.call(.post, "/auth/register", json: body).status == status)
    }

    @Test func lengthIsCountedInBytes() {
        let body: JSON = ["email": .string(TestCloud.newEmail()), "password": "ⴰⴰⴰ", "name": "Someone"]
        #expect(cloud.call(.post, "/auth/register", json: body).status == 201)
    }

    @Test func membersThatWouldGrantSomethingNeverTakeEffect() throws {
        let stranger = try cloud.newOwner()
        let email = TestCloud.newEmail()
        let answer = cloud.call(
            .post, "/auth/register",
            json: [
                "email": .string(email), "password": "correct horse", "name": "Sly", "role": "owner", "id": .string(stranger.id),
                "user_id": .string(stranger.id), "owner_id": .string(stranger.id), "created_at": "1970-01-01T00:00:00Z",
            ])
        #expect(answer.status == 201 && answer["data"]?["role"] == "user")
        #expect(answer["user_id"]?.string != stranger.id)
        #expect(answer["data"]?["created_at"]?.string?.hasPrefix("1970") == false)
        let role = try cloud.admin("select role from users where email_key = \(email)").scalar(String.self)
        #expect(role == "user")
    }

    @Test func thePasswordIsStoredAsScryptOnly() throws {
        let owner = try cloud.newOwner(password: "a canary of a password")
        let row = try cloud.admin("select row_to_json(u)::text from users u where id = \(owner.id)::uuid").scalar(String.self) ?? ""
        #expect(row.contains("$scrypt$ln=4,r=8,p=1$") && !row.contains("canary"))
    }

    @Test(arguments: [
        #"{"email":"a\u0000@example.com","password":"correct horse","name":"N"}"#,
        #"{"email":"a@example.com","password":"correct\u0000horse","name":"N"}"#,
        #"{"email":"a@example.com","password":"correct horse","name":"N","\u0000":1}"#,
        #"{"email":"a@example.com","password":"correct horse","name":"N""#,
        "{'email':'a@example.com'}", "[]", "null", "\"text\"", "", "{}{}", "\u{FEFF}", "{\"email\":\"\u{1}\"}",
        #"{"deep":\#(String(repeating: "[", count: 65))1\#(String(repeating: "]", count: 65))}"#,
    ])
    func whatIsNoObjectOfJSONIsMalformed(text: String) {
        let answer = cloud.call(.post, "/auth/register", text: text)
        #expect(answer.status == 400 && answer.code == "MALFORMED_BODY", "\(answer)")
    }

    @Test func sizeTypeAndLengthOfTheBody() {
        let body: JSON = ["email": .string(TestCloud.newEmail()), "password": "correct horse", "name": "Someone"]
        expect(
            cloud.call(.post, "/auth/register", json: body, type: "application/x-www-form-urlencoded"), 415,
            error: "unsupported_media_type", "UNSUPPORTED_MEDIA_TYPE", "Send the body as application/json")
        expect(
            cloud.call(.post, "/auth/register", body: .tooLarge), 413,
            error: "payload_too_large", "BODY_TOO_LARGE", "The body is larger than 1048576 bytes")
        expect(
            cloud.call(.post, "/auth/register", body: .truncated), 400,
            error: "bad_request", "MALFORMED_BODY", "The body is shorter than its Content-Length")
        #expect(cloud.call(.post, "/auth/register", json: body, type: "Application/JSON ; charset=utf-8").status == 201)
    }

    @Test func theOperatorCanCloseRegistration() throws {
        let closed = try TestCloud(["THECLOUD_REGISTRATION": "closed"])
        let body: JSON = ["email": .string(TestCloud.newEmail()), "password": "correct horse", "name": "Someone"]
        expect(
            closed.call(.post, "/auth/register", json: body), 403,
            error: "forbidden", "REGISTRATION_CLOSED", "Registration is not open for this e-mail address")
    }

    @Test(arguments: ["@Example.org": 201, "@sub.example.org": 403, "@badexample.org": 403, "@example.com": 403])
    func theOperatorCanListDomains(domain: String, status: Int) throws {
        let limited = try TestCloud(["THECLOUD_REGISTRATION": "example.org, example.net"])
        let local = TestCloud.newEmail().prefix { $0 != "@" }
        let body: JSON = ["email": .string(local + domain), "password": "correct horse", "name": "Someone"]
        #expect(limited.call(.post, "/auth/register", json: body).status == status)
    }
}
