// swift-tools-version: 6.2
// The Cloud: imports point down only, in the order of this file. Each C library has exactly one importer.
import PackageDescription

let house: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    // Rows, JSON and SQL are generic and cross modules in every request; this lets release builds specialise them.
    .unsafeFlags(["-cross-module-optimization"], .when(configuration: .release)),
]

func library(_ name: String, on dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: house)
}

func program(_ name: String, on dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, swiftSettings: house)
}

func tests(_ name: String, on dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: house)
}

let package = Package(
    name: "thecloud",
    targets: [
        .systemLibrary(name: "CFastCGI", providers: [.apt(["libfcgi-dev"])]),
        .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),

        .systemLibrary(name: "CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
        .systemLibrary(name: "CWebSocket", providers: [.apt(["libwslay-dev"])]),

        library("System"),
        library("HTTP"),
        library("Postgres", on: ["CPostgres", "HTTP"]),
        library("Crypto", on: ["CCrypto"]),
        library("WebSockets", on: ["CWebSocket", "HTTP", "Crypto"]),
        library("FastCGI", on: ["CFastCGI", "HTTP", "System"]),
        library("Outbound", on: ["CCurl", "HTTP"]),
        library("Schedules", on: ["HTTP"]),
        library("Archive", on: ["CArchive"]),
        library("Docker", on: ["HTTP", "Outbound"]),
        library("Sandboxes", on: ["System", "HTTP", "Archive", "Docker"]),
        library("Identity", on: ["HTTP", "Postgres", "Crypto"]),
        library("Scaling", on: ["HTTP"]),
        library("Balancing", on: ["HTTP", "Crypto", "Docker"]),
        library("API", on: ["System", "HTTP", "Postgres", "Crypto", "Outbound", "Docker", "Sandboxes", "Identity"]),
        library(
            "Cloud",
            on: [
                "HTTP", "Postgres", "Crypto", "Outbound", "Schedules", "Archive", "Docker", "Balancing", "Scaling", "Sandboxes", "Identity",
                "API",
            ]),
        library("Sessions", on: ["HTTP", "Postgres", "Crypto", "Identity", "API"]),
        library("Fleet", on: ["HTTP", "Postgres", "Crypto", "Identity", "API"]),
        library("Chat", on: ["HTTP", "Postgres", "Crypto", "Identity", "API", "Outbound"]),
        library(
            "Jobs",
            on: [
                "HTTP", "Postgres", "Crypto", "Outbound", "Schedules", "Docker", "Balancing", "Scaling", "Sandboxes", "API", "System",
            ]),
        program(
            "thecloud-worker",
            on: ["System", "WebSockets", "HTTP", "Postgres", "FastCGI", "Docker", "Identity", "API", "Cloud", "Sessions", "Fleet", "Chat"]),
        program("thecloud-cron", on: ["API", "Jobs", "System"]),

        .target(
            name: "TestSupport",
            dependencies: ["HTTP", "Postgres", "Crypto", "System", "Docker", "Identity", "API", "Cloud", "Sessions", "Fleet", "Chat"],
            path: "Tests/TestSupport",
            swiftSettings: house),
        tests("HTTPTests", on: ["HTTP"]),
        tests("SchedulesTests", on: ["HTTP", "Schedules"]),
        tests("PostgresTests", on: ["HTTP", "Postgres", "TestSupport"]),
        tests("IdentityTests", on: ["HTTP", "Postgres", "Crypto", "Identity", "TestSupport"]),
        tests("APITests", on: ["HTTP", "Postgres", "Crypto", "Identity", "API", "Cloud", "TestSupport"]),
        tests("CloudTests", on: ["HTTP", "Postgres", "Crypto", "System", "Docker", "Identity", "API", "Cloud", "TestSupport"]),
        tests("SessionsTests", on: ["HTTP", "Postgres", "Crypto", "API", "TestSupport"]),
        tests("ChatTests", on: ["HTTP", "Postgres", "Crypto", "Identity", "Docker", "API", "Chat", "Jobs", "TestSupport"]),
        tests("FleetTests", on: ["HTTP", "Postgres", "System", "API", "TestSupport"]),
        tests("JobsTests", on: ["HTTP", "Postgres", "Crypto", "System", "Docker", "Outbound", "Sandboxes", "API", "Jobs", "TestSupport"]),
        tests("CryptoTests", on: ["Crypto"]),
        .executableTarget(name: "PoolFixture", dependencies: ["FastCGI", "HTTP"], path: "Tests/PoolFixture", swiftSettings: house),
        tests("FastCGITests", on: ["FastCGI", "System", "PoolFixture"]),
        tests("OutboundTests", on: ["HTTP", "Outbound", "TestSupport"]),
        tests("ScalingTests", on: ["HTTP", "Scaling"]),
        tests("BalancingTests", on: ["HTTP", "Outbound", "Docker", "Balancing", "System", "TestSupport"]),
        tests("ArchiveTests", on: ["Archive", "TestSupport"]),
        tests("SandboxesTests", on: ["HTTP", "Docker", "Sandboxes", "TestSupport"]),
        tests("DockerTests", on: ["Docker", "HTTP"]),
        tests("EndToEndTests", on: ["System", "Docker", "HTTP", "Outbound", "Crypto", "TestSupport"], exclude: ["Clients"]),
    ]
)
