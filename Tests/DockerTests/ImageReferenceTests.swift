// The reference grammar: what passes, what it becomes, what is refused.
import Docker
import Testing

struct ImageReferenceTests {
    private static let digest = "sha256:" + String(repeating: "0a", count: 32)

    @Test(arguments: [
        ("nginx", "nginx", "latest", "nginx:latest"), ("nginx:1.25-alpine", "nginx", "1.25-alpine", "nginx:1.25-alpine"),
        ("library/nginx", "library/nginx", "latest", "library/nginx:latest"),
        (
            "registry.example.com:5000/team/web_app:v1", "registry.example.com:5000/team/web_app", "v1",
            "registry.example.com:5000/team/web_app:v1"
        ),
        ("localhost/x", "localhost/x", "latest", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x", "latest", "localhost:5000/x:latest"),
        ("a__b/c---d.e:_x", "a__b/c---d.e", "_x", "a__b/c---d.e:_x"), ("[::1]:5000/x", "[::1]:5000/x", "latest", "[::1]:5000/x:latest"),
        ("nginx@\(digest)", "nginx", digest, "nginx@\(digest)"), ("nginx:1@\(digest)", "nginx", digest, "nginx@\(digest)"),
        ("Registry/x", "Registry/x", "latest", "Registry/x:latest"),
    ])
    func legal(text: String, name: String, tag: String, canonical: String) throws {
        let image = try #require(ImageReference(text))
        #expect(image.description == text)
        #expect(image.name == name)
        #expect(image.pullParameters == (name, tag))
        #expect(image.canonical == canonical)
    }

    @Test(arguments: [
        "", " ", "Nginx", "nginx:", "nginx@", ":1", "@\(digest)", "/nginx", "nginx/", "a//b", "-nginx", "nginx-", "a..b", "a.-b", "a___b",
        "nginx:-1",
        "nginx:a b", "nginx:a/b:c:d", "nginx?x=1", "nginx#x", "nginx/../x", "../../containers/json", "nginx%2f", "ngïnx", "nginx\n",
        "ngi\0nx",
        "nginx:\(String(repeating: "a", count: 129))", String(repeating: "a", count: 256), "nginx@sha256:abc",
        "nginx@md5:\(digest.dropFirst(7))",
        "nginx@\(digest.uppercased())", "nginx@\(digest)@\(digest)", "http://nginx", "host:port/x", "host:/x", "-host.com/x", "host.-com/x",
        "[::1/x", String(repeating: "0a", count: 32),
    ])
    func illegal(text: String) {
        #expect(ImageReference(text) == nil)
    }
}
