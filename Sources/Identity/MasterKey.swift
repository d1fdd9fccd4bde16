// `ck_live_…`: the master key of a client, a tenant of Chat. Kind `master` of the table api_keys.

package enum MasterKey {
    package static let prefix = "ck_live_"

    package static let resolver = bearerKey(prefix: prefix)
}
