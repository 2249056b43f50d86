class AddConstraints < ActiveRecord::Migration[6.1]
  def change
    add_foreign_key :books, :authors
    change_column_null :books, :title, false
    add_index :authors, :email, unique: true
  end
end
