// Messages of webhooks: one for each event and each webhook that wants it. Tables: webhook_deliveries, webhooks.
import API

enum WebhookDelivery {
    static let source = DeliverySource(
        kind: "webhook_delivery", deliveries: "webhook_deliveries", reference: "webhook_id", receivers: "webhooks", url: "url",
        noun: "webhook", secret: .webhookSecret, body: "d.body")

    static let job = source.job
}
