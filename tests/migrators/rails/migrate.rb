require "active_record"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: "127.0.0.1", port: ENV["PGPORT"], username: "postgres", database: ENV["PGDATABASE"]
)
ActiveRecord::Migration.verbose = false
context = ActiveRecord::MigrationContext.new("migrations", ActiveRecord::SchemaMigration)
context.migrate(ARGV[0] == "first" ? 1 : nil)
