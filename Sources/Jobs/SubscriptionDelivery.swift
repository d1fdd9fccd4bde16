// Messages of topics to subscribers with a URL; those with a queue have them since they were published (sql/0012_topics.sql).
// Tables: subscription_deliveries, subscriptions, topic_messages.
import API

enum SubscriptionDelivery {
    static let source = DeliverySource(
        kind: "subscription_delivery", deliveries: "subscription_deliveries", reference: "subscription_id", receivers: "subscriptions",
        url: "endpoint", noun: "subscription", secret: .subscriptionSecret,
        body: "(select m.body from topic_messages m where m.owner_id = d.owner_id and m.id = d.message_id)")

    static let job = source.job
}
