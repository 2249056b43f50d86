class CreateTables < ActiveRecord::Migration[6.1]
  def change
    create_table(:authors) { |t| t.text :name, null: false; t.text :email }
    create_table(:books) { |t| t.bigint :author_id; t.text :title; t.text :isbn; t.integer :pages }
    add_index :books, :isbn, name: "books_isbn"
  end
end
