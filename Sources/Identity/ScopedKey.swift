// `sk_user_…`: the scoped key of one of a client's members. Kind `scoped` of the table api_keys; each login exchanges it.

package enum ScopedKey {
    package static let prefix = "sk_user_"

    package static let resolver = bearerKey(prefix: prefix)
}
