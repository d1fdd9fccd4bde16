// One libcurl easy handle: typed options, a transfer, its outcome. Connections and TLS sessions outlive `reset`, options do not.
// libcurl copies texts but keeps pointers: bodies and lists must live until `perform` is over.
import CCurl

final class EasyHandle {
    private static let ready: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

    let curl: UnsafeMutableRawPointer
    private let message = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))

    init() {
        guard Self.ready, let curl = curl_easy_init() else { preconditionFailure("libcurl can't be started") }
        self.curl = curl
    }

    deinit {
        curl_easy_cleanup(curl)
        message.deallocate()
    }

    /// Forgets all options and sets what holds for everything that we send: no signals (we have threads), no proxy from the environment.
    func reset(protocols: String, timeout: Int, connectTimeout: Int, caFile: String?) {
        curl_easy_reset(curl)
        message.pointee = 0
        thecloud_set_pointer(curl, CURLOPT_ERRORBUFFER, message)
        set(CURLOPT_NOSIGNAL, 1)
        set(CURLOPT_PROTOCOLS_STR, protocols)
        set(CURLOPT_PROXY, "")
        set(CURLOPT_SSL_VERIFYPEER, 1)
        set(CURLOPT_SSL_VERIFYHOST, 2)
        set(CURLOPT_TIMEOUT_MS, timeout)
        set(CURLOPT_CONNECTTIMEOUT_MS, connectTimeout)
        if let caFile { set(CURLOPT_CAINFO, caFile) }
    }

    /// An option that libcurl refuses is one that it was built without: a fault of the installation.
    func set(_ option: CURLoption, _ value: Int) { check(thecloud_set_long(curl, option, value)) }

    func set(_ option: CURLoption, _ text: String) { check(thecloud_set_text(curl, option, text)) }

    private func check(_ code: CURLcode) { precondition(code == CURLE_OK, "libcurl lacks an option that is needed") }

    /// Runs the transfer on the calling thread.
    func perform() -> CURLcode { curl_easy_perform(curl) }

    /// The last status that the other side answered, 0 without one; HTTP or SMTP.
    var status: Int {
        var status = 0
        thecloud_get_long(curl, CURLINFO_RESPONSE_CODE, &status)
        return status
    }

    /// libcurl's sentence about a failure, with host names and certificate problems in it; of a handshake the fixed one, because the other is OpenSSL's.
    func explanation(of code: CURLcode) -> String {
        message.pointee == 0 || code == CURLE_SSL_CONNECT_ERROR ? Self.name(of: code) : String(cString: message)
    }

    /// The fixed sentence for a code.
    static func name(of code: CURLcode) -> String { String(cString: curl_easy_strerror(code)) }
}

/// A `curl_slist` with the lifetime of the object.
final class TextList {
    private(set) var list: UnsafeMutablePointer<curl_slist>?

    init(_ texts: [String]) {
        for text in texts { list = curl_slist_append(list, text) }
    }

    deinit { curl_slist_free_all(list) }
}
