export * from "client-zip";
