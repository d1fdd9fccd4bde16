// The reset mail. The job carries the account only: the token is minted when the mail goes out, anew at each try, and only its hash is stored.
// Tables: users, password_resets.
import API
import Crypto
import HTTP
import Outbound
import Postgres

enum PasswordResetMail {
    static let job = Job(kind: "password_reset_mail", lane: .mail, attempts: 12, patience: 600) { bench, subject in
        guard let owner = ID(subject) else { return .done }
        let rows = try bench.connection.begin().commit("select email, name from users where id = \(owner)")
        guard var row = rows.first, let address = MailAddress(row.next(String.self)) else { return .done }
        let name: String = row.next()
        let token = KeyText.make(prefix: "reset_")
        let transaction = try bench.connection.begin()
        try transaction.send("delete from password_resets where owner_id = \(owner)")
        _ = try transaction.commit(
            """
            insert into password_resets (token_hash, owner_id, expires_at)
            values (\(SHA256.digest(token)), \(owner), now() + interval '1 hour')
            """)
        try Mail.send(message(to: address, name: name, token: token, config: bench.config), via: bench.config.mailTransport)
        return .done
    }

    /// The token stands behind `#`, which browsers never send: no log on the way sees it.
    private static func message(to address: MailAddress, name: String, token: String, config: Config) throws -> MailMessage {
        try MailMessage(
            from: config.mailFrom, to: address, subject: "Reset your password",
            text: """
                Hello \(name),

                somebody, hopefully you, asked to reset the password of your account.
                Open this page to choose a new one:

                \(config.publicURL)/reset-password.html#token=\(token)

                Or send it yourself:

                curl -X POST \(config.publicURL)/auth/reset-password -H 'Content-Type: application/json' \\
                  -d '{"token":"\(token)","new_password":"a new password"}'

                The link works once, within the next hour. All API keys of the account end with it.
                If it was not you, do nothing: your password stays as it is.
                """)
    }
}

extension Config {
    /// SMTP where it is set up, else a folder of `.eml` files.
    var mailTransport: MailTransport { smtpURL.map { .smtp(url: $0) } ?? .directory(mailFolder) }
}
