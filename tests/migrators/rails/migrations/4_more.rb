class More < ActiveRecord::Migration[6.1]
  def up
    add_check_constraint :books, "pages > 0", name: "books_pages"
    execute "UPDATE authors SET name = upper(name) WHERE id <= 5"
    remove_index :books, name: "books_isbn"
    add_reference :books, :editor, foreign_key: { to_table: :authors }
  end
end
