// swift-tools-version: 6.2
// The Cloud: imports point down only, in the order of this file. Each C library has exactly one importer.
import PackageDescription

let house: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InternalImportsByDefault"),
]

func library(_ name: String, on dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: house)
}

func program(_ name: String, on dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, swiftSettings: house)
}

func tests(_ name: String, on dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: house)
}

let package = Package(
    name: "thecloud",
    targets: [
        .systemLibrary(name: "CFastCGI", providers: [.apt(["libfcgi-dev"])]),
        .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),

        library("HTTP"),
        library("Postgres", on: ["CPostgres"]),
        library("Crypto", on: ["CCrypto"]),
        library("FastCGI", on: ["CFastCGI", "HTTP"]),
        library("Outbound", on: ["CCurl"]),
        library("Docker", on: ["HTTP", "Outbound"]),
        library("Identity", on: ["HTTP", "Postgres", "Crypto"]),
        library("API", on: ["HTTP", "Postgres", "Crypto", "Docker", "Identity"]),
        library("Cloud", on: ["HTTP", "Postgres", "Crypto", "Docker", "Identity", "API"]),
        library("Jobs", on: ["HTTP", "Postgres", "Crypto", "Outbound", "Docker", "API"]),
        program("thecloud-worker", on: ["HTTP", "FastCGI", "API", "Identity", "Cloud"]),
        program("thecloud-cron", on: ["API", "Jobs"]),

        tests("CryptoTests", on: ["Crypto"]),
        tests("OutboundTests", on: ["Outbound"]),
        tests("DockerTests", on: ["Docker", "HTTP"]),
    ]
)
